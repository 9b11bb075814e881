"""A failed run is started again, and what is told of it: real processes that only act as ranks."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from launch.attempt import Attempt, Elsewhere, Outcome, Start
from launch.signals import Signals
from launch.supervise import Run, _History
from launch.supervise import supervise as supervised
from pipeline.pretrain_config import RestartsConfig
from pipeline.watching import rank_log

ROOT = Path(__file__).parents[2]
Acts = list[list[str]]  # of each rank


def begin(folder: Path, *starts: Acts, wait: float = 0.0, most: int = 100) -> subprocess.Popen[str]:
    (folder / "script.json").write_text(json.dumps(starts))
    command = [sys.executable, "-m", "tests.launch.supervised", str(folder), str(wait), str(most)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def supervise(folder: Path, *starts: Acts, most: int = 100) -> tuple[int, list[str]]:
    """The exit code, and the lines that the user sees; none of the processes is left."""
    running = begin(folder, *starts, most=most)
    errors = running.communicate(timeout=300)[1]
    assert not processes_of(folder)
    return running.returncode, errors.splitlines()


def processes_of(folder: Path) -> list[psutil.Process]:
    alive = (p for p in psutil.process_iter(["cmdline", "status"]) if p.info["status"] != psutil.STATUS_ZOMBIE)
    return [process for process in alive if any(str(folder) in word for word in process.info["cmdline"] or [])]


def started(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "log" / "starts.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "start"]


def wait_until(folder: Path, running: subprocess.Popen[str], event: str = "ready") -> list[int]:
    """The process ids of both ranks of the first start, once that is the last that they have told."""
    while True:
        events = rank_log.read_events(folder / "log", 1)
        if [of_rank[-1]["event"] for of_rank in events.values()] == [event] * 2:
            return [events[rank][0]["pid"] for rank in (0, 1)]
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.05)


def test_a_killed_rank_and_a_defect_are_told_and_the_run_ends_well(tmp_path: Path) -> None:
    code, lines = supervise(
        tmp_path,
        [["save 5", "say all is well", "mark", "wait"], ["marked 0", "kill 9"]],
        [["raise RuntimeError one\ntwo"], ["after 0", "raise ConnectionError peer"]],
        [[], []],
    )
    assert code == 0, lines
    assert "  rank 0 | all is well" in lines
    killed, raised = (line for line in lines if "; restart " in line)
    # the launcher may see it, and end rank 0, before the supervisor knows of either
    end = r"was killed by signal 9 \(Killed\); restart 1 of at most 100, from step 5, in 0 s"
    assert re.fullmatch(f"kilobatch: (rank 1|a rank) {end}", killed)
    assert raised == (
        f"kilobatch: rank 0: RuntimeError: one two; its traceback is in {tmp_path / 'log' / 'rank-00000.log'};"
        " restart 2 of at most 100, from step 5, in 0 s"
    )
    log = (tmp_path / "log" / "rank-00000.log").read_text()
    assert "RuntimeError: one\ntwo\n" in log
    assert "all is well" in log
    assert not any(line.startswith(("Traceback", "RuntimeError")) for line in lines)  # but of its last lines
    assert [(line["start"], line["step"]) for line in started(tmp_path)] == [(1, 0), (2, 5), (3, 5)]
    assert ["Killed" in line["failure"] for line in started(tmp_path)] == [False, True, False]


def test_two_restarts_without_a_newer_checkpoint_are_the_last_and_the_first_failure_is_told(tmp_path: Path) -> None:
    code, lines = supervise(
        tmp_path,
        [["save 5", "raise ValueError of old"], ["after 0"]],
        [["save 7", "raise KeyError first"], ["after 0"]],
        [["exit 9"], ["after 0"]],
        [["after 1"], ["kill 11"]],
    )
    assert code == 1
    assert lines[-1].startswith(
        "kilobatch: gave up after 3 restart(s), 2 in a row without a newer checkpoint; the first failure: rank 0: "
    )
    assert "first" in lines[-1]
    assert lines[-1].endswith("; run it again to go on from step 7")
    assert any(" ended with exit code 9; restart 3" in line for line in lines)
    assert len(started(tmp_path)) == 4


def test_a_start_that_passed_over_a_checkpoint_is_measured_from_the_one_that_it_loaded(tmp_path: Path) -> None:
    code, lines = supervise(
        tmp_path,
        [["save 90", "exit 1"], ["after 0"]],
        [["load 50", "save 60", "exit 1"], ["after 0"]],
        [["load 60", "save 70", "exit 1"], ["after 0"]],
        [["load 70", "exit 1"], ["after 0"]],
        [["load 70", "save 80"], []],
    )
    assert code == 0, lines
    assert [line.split(", from step ")[1] for line in lines if "; restart " in line] == [
        f"{step}, in 0 s" for step in (90, 60, 70, 70)
    ]


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("InputError the key is wrong", 2, "the key is wrong"),
        ("DigestError it is damaged", 3, "it is damaged"),
        ("Stopped saved, go on", 75, "saved, go on"),
        ("Diverged the loss is nan", 1, "the loss is nan"),
    ],
)
def test_what_no_restart_mends_ends_with_one_line(tmp_path: Path, raised: str, code: int, said: str) -> None:
    found, lines = supervise(tmp_path, [["after 1", "raise ConnectionError peer"], [f"raise {raised}"]])
    assert (found, lines) == (code, [f"kilobatch: {said}"])


def test_a_launcher_that_dies_with_exit_code_0_is_a_failure(tmp_path: Path) -> None:
    running = begin(tmp_path, [["wait"], ["wait"]], most=0)
    rank, _ = wait_until(tmp_path, running)
    psutil.Process(rank).parent().kill()
    assert running.wait(timeout=120) == 1
    assert not processes_of(tmp_path)


@pytest.mark.parametrize("code", [0, 1])
def test_a_stopped_rank_that_ignores_signals_is_not_left(tmp_path: Path, code: int) -> None:
    """Nor waited for where its peer has left without a word, be it as if all were well."""
    found, lines = supervise(tmp_path, [["deaf", "kill 19"], [f"exit {code}"]], [[], []])
    assert found == 0, lines
    assert len(started(tmp_path)) == 2
    assert re.search(f"rank 1 ended (with exit code {code}|without a word)", lines[-1])  # the launcher may be quicker


class Heard:
    """No stop signal, ever."""

    heard: list[int] = []  # noqa: RUF012

    def wait(self, seconds: float) -> bool:
        return False


def test_what_the_system_refuses_for_a_while_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process more, say, or a look at the run's folder."""
    failed = Outcome(1, "rank 0 failed", restart=True)
    ends = [
        failed,
        BlockingIOError(errno.EAGAIN, "no more processes"),
        OSError(errno.ESTALE, "gone"),
        failed,
        Outcome(0),
    ]
    renamed = OSError(errno.EIO, "broken", "RUN/.tmp-config.yaml", None, "RUN")
    steps = [0, OSError(errno.EIO, "broken", "RUN"), renamed, *[0] * 9]

    def next_of(what: list[Any]) -> Any:
        if isinstance(found := what.pop(0), OSError):
            raise found
        return found

    monkeypatch.setattr("launch.supervise.Signals", Heard)
    monkeypatch.setattr("launch.supervise.Attempt", lambda *_: SimpleNamespace(run=lambda: next_of(ends)))
    run = Run(tmp_path, lambda made: Start([], {}, 2), lambda: next_of(steps), RestartsConfig(first_wait_seconds=0))
    assert supervised(run, 0) == 0
    reasons = ["rank 0 failed", "RUN: broken", "[Errno 11] no more processes", "[Errno 116] gone", "rank 0 failed"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("; restart ")[0] for line in lines] == [f"kilobatch: {reason}" for reason in reasons]


def test_a_killed_supervisor_takes_all_with_it(tmp_path: Path) -> None:
    running = begin(tmp_path, [["deaf", "wait"], ["deaf", "wait"]])
    wait_until(tmp_path, running)
    running.kill()
    running.wait()
    deadline = time.monotonic() + 60
    while left := processes_of(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_stop_signal_is_handed_to_every_rank_once(tmp_path: Path, number: int) -> None:
    running = begin(tmp_path, [["until"], ["until"]])
    wait_until(tmp_path, running)
    running.send_signal(number)
    assert running.communicate(timeout=120)[1] == "kilobatch: saved\n"
    assert running.returncode == 75
    assert not processes_of(tmp_path)


def test_a_run_that_fails_while_it_is_stopped_may_be_submitted_again(tmp_path: Path) -> None:
    running = begin(tmp_path, [["save 7", "until broken"], ["until broken"]])
    wait_until(tmp_path, running)
    running.send_signal(signal.SIGTERM)
    last = running.communicate(timeout=120)[1].splitlines()[-1]
    assert ": RuntimeError: broken; its traceback is in " in last
    assert last.endswith("; it was asked to stop, so there is no restart; run it again to go on from step 7")
    assert running.returncode == 75
    assert not processes_of(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_at_once(tmp_path: Path, number: int) -> None:
    running = begin(tmp_path, [["stubborn"], ["stubborn"]])
    wait_until(tmp_path, running)
    running.send_signal(signal.SIGTERM)
    wait_until(tmp_path, running, "heard")
    time.sleep(0.5)  # sooner it would count as the same: some programs signal twice
    running.send_signal(number)
    errors = running.communicate(timeout=120)[1]
    assert errors == f"kilobatch: left at once on a second {signal.Signals(number).name}; run it again to go on\n"
    assert running.returncode == 128 + number
    assert not processes_of(tmp_path)


def test_a_signal_to_a_rank_that_cannot_hear_it_yet_stops_the_run(tmp_path: Path) -> None:
    running = begin(tmp_path, [["wait"], ["wait"]])
    os.kill(wait_until(tmp_path, running)[1], signal.SIGTERM)
    assert "stopped before the first step of this start; run it again" in running.communicate(timeout=120)[1]
    assert running.returncode == 75
    assert not processes_of(tmp_path)


def test_a_stop_signal_ends_the_wait_for_a_restart(tmp_path: Path) -> None:
    running = begin(tmp_path, [["save 3", "raise ValueError x"], ["wait"]], wait=200.0)
    assert running.stderr
    while "restart 1 of" not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    assert "stopped before a restart from step 3" in running.communicate(timeout=60)[1]
    assert running.returncode == 75


def test_waits_double_up_to_a_limit_and_begin_anew_behind_a_start_that_lasted() -> None:
    history = _History(RestartsConfig(first_wait_seconds=5, longest_wait_seconds=30))
    waits = []
    for seconds in (1, 1, 1, 1, 100, 1, 1):
        history.failed("x", progress=True, seconds=seconds)
        waits.append(history.wait_seconds())
    assert waits == [5, 10, 20, 30, 5, 5, 10]


def test_hosts_that_come_back_are_waited_for_however_often_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "absent").write_text("4")
    code, lines = supervise(tmp_path, [["save 5", "exit 1"], ["after 0"]], [[], []])
    assert code == 0, lines
    assert lines[-1] == "kilobatch: no host is fit; restart 5 of at most 100, from step 5, in 0 s"
    assert len(started(tmp_path)) == 2
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "absent").write_text("4")
    code, lines = supervise(tmp_path / "again", [["exit 1"], ["after 0"]], most=3)
    assert code == 1
    assert "gave up after 3 restart(s); none could be made now: no host is fit; the first failure: " in lines[-1]


def test_a_rank_whose_first_word_is_lost_and_a_start_that_is_not_noted_end_nothing(tmp_path: Path) -> None:
    """As on a full disk: the log of starts cannot be written, and of a rank's events the first is missing."""
    (tmp_path / "log" / "starts.jsonl").mkdir(parents=True)
    (tmp_path / "log" / "rank-00000.jsonl").write_text('{"time": 0, "start": 1, "event": "imported"}\n')
    code, lines = supervise(tmp_path, [["after 1"], ["exit 1"]], [[], []])
    assert code == 0, lines


def test_who_ignores_a_hang_up_from_the_beginning_goes_on() -> None:
    """As under `nohup`."""
    script = "import os, signal; from launch.signals import Signals; heard = Signals().heard;"
    script += "[os.kill(os.getpid(), number) for number in (signal.SIGHUP, signal.SIGTERM)]; print(heard)"
    done = subprocess.run(["nohup", sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"[{int(signal.SIGTERM)}]\n", done.stderr


def test_ranks_elsewhere_are_asked_to_stop_until_one_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second word would end a rank that has heard the first."""
    answers, asked = [False, False, True], []

    def ask(number: signal.Signals) -> bool:
        asked.append(number)
        return answers.pop(0)

    monkeypatch.setattr("launch.attempt.ASK_SECONDS", 0.0)
    start = Start([], {}, 1, elsewhere=Elsewhere(tmp_path / "environment", ask))
    attempt = Attempt(start, 1, tmp_path, Signals.__new__(Signals), 0)
    for _ in range(5):
        attempt._ask_to_stop()
    assert asked == [signal.SIGUSR1] * 3


def test_memory_that_was_shared_by_a_process_which_is_gone_is_freed(tmp_path: Path) -> None:
    """As by a loader worker that dies with its rank: at the end nobody knows its number, unless it was noted before."""
    (tmp_path / "log").mkdir()
    attempt = Attempt(Start([], {}, 1), 1, tmp_path / "log", Signals.__new__(Signals), 0)  # which hears nothing
    attempt.launcher = subprocess.Popen(["sleep", "600"], start_new_session=True)
    shared = Path(f"/dev/shm/torch_{attempt.launcher.pid}_of_a_test")
    shared.touch()
    attempt._find_members()
    attempt.launcher.kill()
    attempt.launcher.wait()
    foreign = Path(f"/dev/shm/torch_{attempt.launcher.pid}_that_cannot_go")  # as another user's file
    foreign.mkdir()
    try:
        attempt._end_all()
    finally:
        foreign.rmdir()
    assert not shared.exists()
    shared.touch()  # a start whose command is killed cannot free it; the next one does
    assert supervise(tmp_path, [[], []]) == (0, [])
    assert not shared.exists()
