"""The real launcher under the supervisor: a rank is killed, a device is gone, and a stop reaches one rank alone."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.checkpoints.run_folder import RunFolder
from pipeline.watching.rank_log import Event, read_events

SETTINGS = ["schedule.total_steps=100000", "checkpoint.every_steps=2", "restarts.first_wait_seconds=0", "cpu_ranks=2"]


class Command:
    """`kilobatch pretrain`, watched by what it leaves in its run's folder."""

    def __init__(self, folder: Path, run: RunFolder, words: list[str]) -> None:
        self.run, self.out, self.errors = run, folder / "out", folder / "errors"
        with self.out.open("w") as out, self.errors.open("w") as errors:
            self.running = subprocess.Popen([sys.executable, *words], stdout=out, stderr=errors)

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 500
        while not what():
            assert self.running.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def starts(self) -> list[Event]:
        return [line for line in lines_of(self.run.log / "starts.jsonl") if line["event"] == "start"]


def lines_of(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def has_stepped(run: RunFolder, start: int) -> bool:
    return any(event["event"] == "first step" for event in read_events(run.log, start)[0])


@pytest.mark.timeout(1200)  # a busy machine imports torch for a minute
def test_a_killed_run_goes_on_with_fewer_ranks_until_a_rank_is_asked_to_stop(pretrain_yaml: Path) -> None:
    run = RunFolder(pretrain_yaml.parent / "run")
    words = ["-m", "tests.integration.shrinking", "pretrain", str(pretrain_yaml), *SETTINGS]
    command = Command(pretrain_yaml.parent, run, words)
    try:
        command.wait_for(lambda: len(run.steps()) > 0)
        os.kill(read_events(run.log, 1)[1][0]["pid"], signal.SIGKILL)
        command.wait_for(lambda: len(command.starts()) > 1 and has_stepped(run, command.starts()[-1]["start"]))
        (events,) = read_events(run.log, command.starts()[-1]["start"]).values()
        rank = psutil.Process(events[0]["pid"])
        everything = [rank, *rank.children(recursive=True), *rank.parents()[:1]]
        rank.send_signal(signal.SIGINT)
        assert command.running.wait(timeout=500) == 75
    finally:
        command.running.kill()  # and the kernel all that it has started
    errors, out = command.errors.read_text().splitlines(), command.out.read_text()
    (restart,) = (line for line in errors if "; restart 1 of at most 100, from step " in line)
    assert restart.startswith("kilobatch: rank 1 was killed by signal 9 (Killed); restart 1 of")
    assert (
        "kilobatch: 1 rank(s) where the start before had 2: "
        "8 sequences a step = 1 a micro-batch × 8 accumulated × 1 rank(s)"
    ) in errors
    assert errors[-1].endswith(f"saved in {run.checkpoint(run.steps()[-1])}; run it again to go on")
    step = re.search(r"from step (\d+), in 0 s", restart)
    assert step
    assert f"steps {step[1]} to 100000" in out
    steps = [line["step"] for line in lines_of(run.metrics) if line["event"] == "train"]
    assert steps == list(range(1, run.steps()[-1] + 1))
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in everything)
