"""Who makes no progress is found by counting, so most of this needs no time to pass."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.watching.watchdog import TICKS, Watchdog, WatchdogConfig

HUNG = """
import ctypes, sys, time
from pathlib import Path
from pipeline.watching.watchdog import Watchdog, WatchdogConfig

def stuck():
    {stuck}

with Watchdog(WatchdogConfig(minutes=1 / 60, start_minutes=1 / 60), Path(sys.argv[1]), 0, 1):
    stuck()
"""


class Dog(Watchdog):
    ended = False

    def end(self) -> None:
        self.ended = True


def dog(folder: Path, rank: int = 0, world_size: int = 1, **minutes: float) -> Dog:
    return Dog(WatchdogConfig(**{"minutes": 10, "start_minutes": 10, **minutes}), folder, rank, world_size)


def look(watchdog: Dog, times: int) -> None:
    for _ in range(times):
        watchdog.look()


def test_progress_is_counted_anew_from_each_word(tmp_path: Path) -> None:
    watchdog = dog(tmp_path / "log")
    for part in ("forward", "backward", "update", "evaluation", "checkpoint"):
        watchdog.now(part)
        look(watchdog, TICKS)
    assert not (tmp_path / "log").exists()


def test_the_start_may_take_longer(tmp_path: Path) -> None:
    watchdog = dog(tmp_path, start_minutes=20)
    look(watchdog, 2 * TICKS - 1)
    watchdog.step(1)
    look(watchdog, 2 * TICKS)
    assert not list(tmp_path.iterdir())
    watchdog.step(2)
    look(watchdog, 1 + TICKS)
    assert list(tmp_path.iterdir())


def test_stacks_then_a_line_then_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watchdog = dog(tmp_path / "log")
    watchdog.step(12)
    watchdog.now("backward")
    look(watchdog, 1 + TICKS)
    written = (tmp_path / "log" / "stacks-rank-00000.txt").read_text()
    assert re.match(r"== rank 0, step 12, backward: no progress for 10 min; \d{4}-.*: 0x\w+ MainThread", written)
    assert "in test_stacks_then_a_line_then_the_end" in written
    assert capsys.readouterr().err == ""
    look(watchdog, watchdog.grace)
    said = "kilobatch: no progress for 10 min: rank 0 at step 12, backward; the stacks of all threads are in"
    assert capsys.readouterr().err.startswith(said)
    look(watchdog, 2 * watchdog.grace - 1)
    assert not watchdog.ended
    look(watchdog, 1)
    assert watchdog.ended


def test_a_rank_that_cannot_write_its_stacks_ends_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").write_text("where a folder cannot be made")
    watchdog = dog(tmp_path / "log", world_size=2)
    watchdog.step(12)
    look(watchdog, 1 + TICKS + 3 * watchdog.grace)
    assert watchdog.ended
    assert "ranks 0–1 wrote nothing" in capsys.readouterr().err


def test_who_goes_on_after_all_goes_on(tmp_path: Path) -> None:
    watchdog = dog(tmp_path)
    look(watchdog, TICKS + 2 * watchdog.grace)
    watchdog.now("update")
    look(watchdog, TICKS)
    assert not watchdog.ended
    look(watchdog, 1)
    assert (tmp_path / "stacks-rank-00000.txt").read_text().count("== rank 0") == 2


def test_the_lowest_rank_that_can_speaks_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "stacks-rank-00000.txt"
    old.write_text("== rank 0, step 3, update: no progress for 10 min; of old\n")
    os.utime(old, (2**32, 2**32))  # by the clock of another machine
    dogs = {rank: dog(tmp_path, rank, 8) for rank in (1, 2, 3, 5, 7)}  # 0, 4 and 6 can do nothing
    for rank, watchdog in dogs.items():
        watchdog.step(12)
        watchdog.now("backward" if rank == 5 else "counters")
        look(watchdog, 1)
    for _ in range(TICKS + 3):
        for watchdog in dogs.values():
            watchdog.look()
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0) if path != old else (2**32, 2**32))
    said = capsys.readouterr().err
    assert said.startswith(
        "kilobatch: no progress for 10 min: ranks 1–3, 7 at step 12, counters; rank 5 at step 12, backward;"
        " ranks 0, 4, 6 wrote nothing"
    )
    assert said.count("\n") == 1
    for _ in range(2 * dogs[1].grace):
        for watchdog in dogs.values():
            watchdog.look()
    assert [watchdog.ended for watchdog in dogs.values()] == [True, False, False, False, False]  # who spoke is first
    look(dogs[7], dogs[7].grace)
    assert dogs[7].ended
    assert dogs[7].said == "rank 7 made no progress for 10 min, at step 12, counters"


@pytest.mark.parametrize(
    ("stuck", "stream"), [("time.sleep(1000)", "file"), ("ctypes.PyDLL(None).sleep(1000)", "stderr")]
)
def test_a_process_ends_also_where_the_interpreter_is_locked(stuck: str, stream: str, tmp_path: Path) -> None:
    """PyDLL calls without letting go of the lock, so that no thread of Python's can look."""
    program = HUNG.format(stuck=stuck)
    done = subprocess.run([sys.executable, "-c", program, tmp_path], stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 1
    stacks = (tmp_path / "stacks-rank-00000.txt").read_text() if stream == "file" else done.stderr
    assert re.search(r'File "<string>", line \d+ in stuck', stacks)
