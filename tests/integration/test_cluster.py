"""`kilobatch launch` on two hosts, each an sshd of its own, by the real DeepSpeed launcher, pdsh and ssh."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch.host import ranks
from pipeline.checkpoints.run_folder import RunFolder
from tests.cluster import ADDRESSES, Loopback, missing
from tests.conftest import PRETRAIN_YAML
from tests.tiny import tiny_corpus

ROOT = Path(__file__).parents[2]
ODD, VALUE = "KILOBATCH_ODD", "two  words; 'quoted' & more > x | y #z"
SECRET = "MLFLOW_TRACKING_TOKEN"  # a name that DeepSpeed would export


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    if reason := missing():
        pytest.skip(reason)
    loopback = Loopback(tmp_path_factory.mktemp("hosts"))
    yield loopback
    loopback.close()


@pytest.fixture(scope="module")
def folder(hosts: Loopback, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that would train for a long time."""
    folder = tmp_path_factory.mktemp("cluster")
    tiny_corpus(folder / "corpus")
    (folder / "deepspeed.json").write_text('{"zero_optimization": {"stage": 1}}')
    names = {"corpus": folder / "corpus", "output": folder / "run", "deepspeed": folder / "deepspeed.json"}
    text = PRETRAIN_YAML.format(**names).replace("total_steps: 10", "total_steps: 100000")
    (folder / "pretrain.yaml").write_text(text)
    return folder


class Command:
    """A running `kilobatch …`; what it says goes to a file."""

    def __init__(self, hosts: Loopback, folder: Path, *words: str) -> None:
        self.said = folder / "said.txt"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **hosts.environment(), ODD: VALUE, SECRET: "hunter2"}
        command = [sys.executable, "-m", "launch.cli", *words]
        with self.said.open("w") as file:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        """What the condition says as soon as that is true."""
        deadline = time.monotonic() + 240
        while not (found := condition()):
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.05)
        return found

    def ends(self) -> int:
        return self.process.wait(240)


def launched(hosts: Loopback, folder: Path, *settings: str) -> Command:
    hostfile = str(hosts.hostfile())
    return Command(hosts, folder, "launch", str(folder / "pretrain.yaml"), *settings, "--hostfile", hostfile)


def ranks_of(run: RunFolder) -> dict[int, psutil.Process]:
    """By their rank: each is a child of who looks after it and a parent of loader workers, all of which look alike."""
    alike = {process.pid: process for process in ranks(str(run.config))}
    found = {}
    for process in alike.values():
        with suppress(psutil.Error):
            above = process.ppid()
            if above in alike and alike[above].ppid() not in alike:
                found[int(process.environ()["RANK"])] = process
    return found


def losses(run: RunFolder) -> dict[int, float]:
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["event"] == "train"}


def steps_seen(run: RunFolder) -> int:
    return run.metrics.read_text().count('"train"') if run.metrics.is_file() else 0


def test_a_run_goes_on_without_a_host_that_is_lost_and_stops_when_asked(hosts: Loopback, folder: Path) -> None:
    run, reference = RunFolder(folder / "run"), RunFolder(folder / "reference")
    command = launched(hosts, folder, "checkpoint.every_steps=20", "restarts.first_wait_seconds=0")
    lost = command.wait_until(lambda: steps_seen(run) >= 2 and ranks_of(run).get(1))
    environment = lost.environ()
    assert environment[ODD] == VALUE
    assert environment["GLOO_SOCKET_IFNAME"] == "lo"
    assert SECRET not in environment
    hosts.stop(ADDRESSES[1])
    lost.kill()
    command.wait_until(lambda: f"1 of 2 ranks, on {ADDRESSES[0]} × 1: 8 sequences a step" in command.said.read_text())
    before = steps_seen(run)
    command.wait_until(lambda: steps_seen(run) != before)
    command.process.send_signal(signal.SIGTERM)
    assert command.ends() == 75, command.said.read_text()
    assert hosts.start(ADDRESSES[1])
    said = command.said.read_text()
    assert said.count(f"host {ADDRESSES[0]}: ready: ") == 2
    assert said.count(f"host {ADDRESSES[1]}: ready: ") == 1
    assert f"host {ADDRESSES[1]}: left out: not reachable by ssh: " in said
    assert said.count("; restart 1 of at most ") == 1
    assert "an earlier start were killed" not in said
    assert "run it again to go on" in said.splitlines()[-1]
    assert "INFO" not in said
    assert ranks(str(run.config)) == []
    last = run.steps()[-1]
    words = [str(folder / "pretrain.yaml"), f"output={reference.path}", f"stop_at_step={last}", "cpu_ranks=1"]
    uninterrupted = Command(hosts, folder, "pretrain", *words)
    assert uninterrupted.ends() == 75, uninterrupted.said.read_text()
    expected, found = losses(reference), losses(run)
    assert sorted(found) == sorted(expected) == list(range(1, last + 1))
    assert [found[step] for step in sorted(found)] == pytest.approx([expected[s] for s in sorted(found)], rel=1e-5)


@pytest.mark.chaos
def test_ranks_save_and_end_when_their_command_is_stopped_or_killed(hosts: Loopback, folder: Path) -> None:
    run = RunFolder(folder / "both")
    command = launched(hosts, folder, f"output={run.path}")
    command.wait_until(lambda: steps_seen(run) >= 2)
    command.process.send_signal(signal.SIGTERM)
    assert command.ends() == 75, command.said.read_text()
    assert ranks(str(run.config)) == []
    (stopped,) = run.steps()
    command = launched(hosts, folder, f"output={run.path}")
    command.wait_until(lambda: steps_seen(run) >= stopped + 2)
    command.process.kill()
    assert command.ends() == -signal.SIGKILL
    deadline = time.monotonic() + 120
    while ranks(str(run.config)):
        assert time.monotonic() < deadline, "ranks outlive their command"
        time.sleep(0.05)
    assert run.steps()[-1] >= stopped + 2
    last = run.steps()[-1] + 1
    again = launched(hosts, folder, f"output={run.path}", f"stop_at_step={last}")
    assert again.ends() == 75, again.said.read_text()
    assert "an earlier start were killed" not in again.said.read_text()
    assert run.steps()[-1] == last
