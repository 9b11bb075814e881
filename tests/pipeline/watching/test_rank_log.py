"""What a rank says: all of it in its log, which stays below a bound, and rank 0's above its progress bar."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.watching import bounded, rank_log

ROOT = Path(__file__).parents[3]
SPOKEN = """\
import logging, os, sys, warnings
from pathlib import Path
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.watching import rank_log
from pipeline.watching.metrics import Metrics
rank_log.open_log()
logging.basicConfig(format="%(message)s")  # has the stderr of now
metrics = Metrics(RunFolder(Path(sys.argv[1])), 0, 10)
print("printed", file=sys.stderr)
warnings.warn("warned")
logging.warning("logged")
os.write(2, b"said in C\\n")
metrics.say("for people")
sys.stderr.write("a part")
sys.stderr.flush()
sys.stderr.write(" of a line")
metrics.close()
print("afterwards", file=sys.stderr)
"""
FLOOD = """\
import os, subprocess, sys, time
from pathlib import Path
from pipeline.watching import bounded, rank_log
bounded.MOST_BYTES, bounded.LOOK_SECONDS = 5000, 0.01
rank_log.open_log()
path = rank_log.log_of(Path(os.environ[rank_log.FOLDER]), 1)
for _ in range(3):
    subprocess.run([sys.executable, "-c", "print('x' * 99 + '\\\\n' * 100)"], stdout=2)
    os.write(2, b"".join(b"%099d\\n" % n for n in range(100)))
    while path.stat().st_size > bounded.MOST_BYTES:
        time.sleep(0.01)
os.write(2, b"the end\\n")
"""


def begin(folder: Path, script: str, rank: int, terminal: int | None = None) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, **rank_log.environment(folder, 1), "TERM": "xterm", "COLUMNS": "80"}
    environment |= {"RANK": str(rank), "WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=terminal, stderr=terminal)


def shown(terminal: int) -> list[str]:
    """The lines that stand on a terminal at the end: what is behind the last that clears each, without colours."""
    data = b""
    with suppress(OSError):  # nobody writes any more
        while block := os.read(terminal, 1 << 16):
            data += block
    lines = [line.rpartition("\x1b[2K")[2] for line in data.decode().split("\n")]
    return [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line).strip() for line in lines]


def test_what_rank_0_says_under_its_bar_is_in_the_log_and_above_the_bar(tmp_path: Path) -> None:
    try:
        mine, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be had here: {error}")
    speaking = begin(tmp_path, SPOKEN, 0, theirs)
    os.close(theirs)
    lines = shown(mine)
    os.close(mine)
    assert speaking.wait(300) == 0, lines
    log = rank_log.log_of(tmp_path, 0).read_text()
    for said in ("printed\n", "UserWarning: warned\n", "logged\n", "said in C\n", "a part of a line", "afterwards\n"):
        assert said in log
    people = ["printed", "logged", "for people", "a part of a line", "afterwards"]
    assert [line for line in lines if line in people] == people
    assert any(line.endswith("UserWarning: warned") for line in lines)


def test_a_log_that_many_write_is_cut_where_it_is(tmp_path: Path) -> None:
    assert begin(tmp_path, FLOOD, 1).wait(300) == 0
    path = rank_log.log_of(tmp_path, 1)
    assert path.stat().st_size <= 5000 + len("the end\n")
    assert bounded.before(path).stat().st_size <= 10000
    lines = rank_log.last_lines(tmp_path, 1, 20)
    assert lines[-2:] == [f"{99:099d}", "the end"]
    assert len(lines) == 20


def test_last_lines_are_of_the_last_start_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rank_log.log_of(tmp_path, 0)
    path.write_text(f"{rank_log.HEADER}1, then\nold\n{rank_log.HEADER}2, then\n{'long ' * 1000}\nnew\n")
    assert rank_log.last_lines(tmp_path, 0, 10) == [("long " * 1000)[: rank_log.LINE_CHARACTERS], "new"]
    monkeypatch.setattr(bounded, "MOST_BYTES", 30)
    bounded.cut(path)
    assert path.read_text() == ""
    assert len(bounded.before(path).read_text()) == 30
    with path.open("a") as file:
        file.write("newer\n")
    assert rank_log.last_lines(tmp_path, 0, 2) == ["new", "newer"]
    with path.open("a") as file:
        file.write(f"{rank_log.HEADER}3, then\nnewest\n")
    assert rank_log.last_lines(tmp_path, 0, 10) == ["newest"]
    bounded.cut(path)
    path.unlink()
    assert rank_log.last_lines(tmp_path, 0, 10) == []


def test_a_full_disk_hides_nothing_from_the_terminal_and_a_closed_terminal_nothing_from_the_log(tmp_path: Path) -> None:
    path, full = tmp_path / "said", os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    with path.open("w") as file:
        for both in (rank_log.Both(full, file), rank_log.Both(file, full)):
            print("one", file=both)
            print("two", file=both, flush=True)
    assert path.read_text() == "one\ntwo\n" * 2
    with suppress(OSError):
        full.close()
