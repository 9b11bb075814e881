"""`kilobatch pretrain` against all that breaks a run: it goes on by itself, and ends with the bytes of one unbroken."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.watching.rank_log import read_events
from tests.chaos.faulty import FAULTS
from tests.chaos.runs import end_of, logged, resolved
from tests.tiny import tiny_corpus

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
STEPS = 24
SETTINGS = [f"schedule.total_steps={STEPS}", "cpu_ranks=2", "loader_workers=1", "restarts.first_wait_seconds=0"]
SETTINGS += ["watchdog.minutes=0.5", "guard.compare_replicas_every=1"]
NAN = [0, 1, "nan", 16]  # in every run, also in that to compare with: the step is skipped
Fault = list[Any]


def begin(config: Path, *faults: Fault) -> subprocess.Popen[str]:
    """The real command: its supervisor, the launcher, two ranks with a loader worker each."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.faulty", "pretrain", str(config)],
        cwd=ROOT, env={**os.environ, FAULTS: json.dumps([NAN, *faults])},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def command(config: Path, *faults: Fault) -> str:
    """Run it to the end; what it says to the user."""
    running = begin(config, *faults)
    errors = running.communicate(timeout=1500)[1]
    assert running.returncode == 0, errors
    assert not processes_of(config.parent)
    return errors


def processes_of(run: Path) -> list[psutil.Process]:
    alive = (p for p in psutil.process_iter(["cmdline", "status"]) if p.info["status"] != psutil.STATUS_ZOMBIE)
    return [process for process in alive if any(str(run) in word for word in process.info["cmdline"] or [])]


def wait_until(condition: Callable[[], Any], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the run that nothing breaks."""
    folder = tmp_path_factory.mktemp("command")
    command(resolved(tiny_corpus(folder / "corpus"), folder / "whole", overrides=SETTINGS))
    return folder


@pytest.fixture(autouse=True)
def leaves_no_shared_memory() -> Any:
    before = set(Path("/dev/shm").iterdir())
    yield
    left = set(Path("/dev/shm").iterdir()) - before
    assert not {path for path in left if path.name.startswith(("torch", "deepspeed", "psm", "sem"))}


def same_end(folder: Path, run: Path) -> None:
    assert end_of(run, STEPS) == end_of(folder / "whole", STEPS)
    assert logged(run) == logged(folder / "whole")


def failures(run: Path) -> list[str]:
    """Why starts of a run ended that did not come to its end, and whose command lived to say so."""
    lines = [json.loads(line) for line in (run / "log" / "starts.jsonl").read_text().splitlines()]
    return [line["reason"] for line in lines if line["event"] == "end" and line["code"]]


def test_one_command_goes_on_through_all_that_breaks_it(folder: Path) -> None:
    run = folder / "broken"
    config = resolved(folder / "corpus", run, overrides=SETTINGS)
    faults: list[Fault] = [
        [1, 1, "kill", 5],
        [2, 0, "kill", "fsync .*00000006.*"],
        [3, 1, "stop", 8],
        [4, 0, "flip", 8],
        [5, 0, "kill launcher", 11],
        [6, 1, "raise", 14],
        [7, 0, "kill", "rename .*00000018.*"],
        [8, 0, "stop", "fsync .*00000021.*"],
    ]
    command(config, *faults)
    found = failures(run)
    expected = [
        "rank 1 was killed by signal 9",
        "rank 0 was killed by signal 9",
        "; rank 1 wrote nothing (stopped, lost, or not yet waiting)",
        "step 8: weight of ",
        "",
        "rank 1: RuntimeError: what nobody expected",
        "rank 0 was killed by signal 9",
        "; rank 0 wrote nothing (stopped, lost, or not yet waiting)",
    ]
    assert len(found) == len(expected), found
    assert all(part in line for part, line in zip(expected, found, strict=True)), found
    same_end(folder, run)


def test_the_command_killed_at_seeded_moments_leaves_no_process_and_the_next_goes_on(folder: Path) -> None:
    """By a rank in a step or in a save, or from outside while the ranks come up."""
    run, draw = folder / "commands", random.Random(8)
    config = resolved(folder / "corpus", run, overrides=SETTINGS)
    starting = ["start", "imported", "joined", "built", "loaded"]
    saving = [f"{call} .*{step:08d}.*" for call, step in (("fsync", 6), ("rename", 12), ("open", 18))]
    steps = [draw.randrange(begin, begin + 3) for begin in (1, 7, 13, 20)]
    pairs = zip(saving, steps[1:], strict=True)
    moments = [*starting, steps[0], *(moment for pair in pairs for moment in pair)]
    for number, moment in enumerate(moments, 1):
        rank = 0 if moment in saving else draw.randrange(2)
        if moment in starting:
            running = begin(config)
            while moment not in [event["event"] for event in read_events(run / "log", number)[rank]]:
                assert running.poll() is None, running.communicate()[1]
                time.sleep(0.02)
            time.sleep(draw.uniform(0, 0.3))
            running.send_signal(signal.SIGKILL)
        else:
            running = begin(config, [number, rank, "kill command", moment])
        running.communicate(timeout=300)
        wait_until(lambda: not processes_of(run), seconds=60)
        assert running.returncode == -9, (moment, failures(run))
    command(config)
    same_end(folder, run)
