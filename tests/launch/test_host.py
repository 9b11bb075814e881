"""What a host finds wrong with itself, asked in this process; and what of a run it finds and ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch import host
from pipeline.files import file_sha256


@pytest.fixture
def request_(tmp_path: Path) -> dict[str, Any]:
    """A check that this machine passes."""
    (tmp_path / "nonce").write_text("nonce")
    (tmp_path / "a.json").write_text("{}")
    return {
        "do": "check",
        "config": str(tmp_path / "config.yaml"),
        "identity": host.identity(),
        "run": str(tmp_path),
        "nonce": "nonce",
        "answer": "nonce-0",
        "files": {str(tmp_path / "a.json"): file_sha256(tmp_path / "a.json")},
        "cpu": False,
        "end": True,
        "slots": 2,
        "master": "127.0.0.1",
    }


def test_a_host_that_is_fit_says_what_it_has(
    request_: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "gpus", lambda: 2)
    answer = host.answer(request_)
    assert answer["problems"] == []
    assert (answer["gpus"], answer["ended"]) == (2, 0)
    assert answer["cores"] == len(os.sched_getaffinity(0))
    assert (tmp_path / "nonce-0").read_text() == "nonce"


@pytest.mark.parametrize(("changed", "problem"), [
    ({"identity": {**host.identity(), "torch": "1.0"}}, "torch is "),
    ({"identity": {**host.identity(), "Kilobatch's code": "0"}}, "Kilobatch's code is "),
    ({"run": "/nonexistent/run"}, "/nonexistent/run/nonce: No such file or directory: the run's folder must be one"),
    ({"nonce": "a.json"}, "reads something else in "),
    ({"files": {"/nonexistent/a.json": "0"}}, "/nonexistent/a.json: No such file or directory"),
    ({"slots": 3}, "has 2 GPU(s), fewer than its 3 slots"),
])  # fmt: skip
def test_what_makes_a_host_unfit_is_named(
    request_: dict[str, Any], changed: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "gpus", lambda: 2)
    (found,) = host.answer({**request_, **changed})["problems"]
    assert found.startswith(problem)


def test_whether_the_first_host_is_known_is_told_apart(request_: dict[str, Any]) -> None:
    answer = host.answer({**request_, "master": "no-such-host.invalid", "slots": 0})
    assert answer["problems"] == []
    assert answer["unknown"].startswith("does not know the name 'no-such-host.invalid' of the first host: ")


def test_another_file_of_the_same_name_is_named(request_: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{ }")
    assert host.answer(request_)["problems"] == [f"{tmp_path / 'a.json'} is another file here"]


@contextmanager
def process_like_a_rank(folder: Path, config: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`python -u -m launch.rank CONFIG`, of another module of that name: it waits."""
    (folder / "launch").mkdir(exist_ok=True)
    (folder / "launch" / "__init__.py").touch()
    (folder / "launch" / "rank.py").write_text("import sys\nprint(flush=True)\nsys.stdin.read()\n")
    command = [sys.executable, "-u", "-m", host.RANK, config]
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_runs_is_ended_before_a_start_and_not_for_a_look(request_: dict[str, Any], tmp_path: Path) -> None:
    with process_like_a_rank(tmp_path, request_["config"]) as rank:
        assert host.answer({**request_, "end": False})["ended"] == 0
        assert rank.poll() is None
        assert host.answer(request_)["ended"] == 1
        assert not psutil.pid_exists(rank.pid)


def test_ranks_of_this_run_alone_are_asked_or_killed(tmp_path: Path) -> None:
    ours, theirs = str(tmp_path / "ours.yaml"), str(tmp_path / "theirs.yaml")
    with process_like_a_rank(tmp_path, ours) as one, process_like_a_rank(tmp_path, theirs) as other:
        assert host.answer({"do": "stop", "config": ours}) == {"reached": 1}
        assert one.wait(60) == -signal.SIGUSR1
        assert host.answer({"do": "end", "config": ours}) == {"reached": 0}
        assert other.poll() is None
        assert host.answer({"do": "end", "config": theirs}) == {"reached": 1}
        assert not psutil.pid_exists(other.pid)
