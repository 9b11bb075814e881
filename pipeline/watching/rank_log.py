"""What a rank leaves in RUN/log/, for people and for whoever supervises it.

rank-00000.log has its stderr, and of ranks other than 0 its stdout; rank-00000.jsonl has an event a line: when it
began, what it reached, how it ended. A rank that nobody supervises leaves nothing and speaks as any process does.
"""

import faulthandler
import io
import json
import os
import socket
import sys
import time
import traceback
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from pipeline.errors import RunError, UserError
from pipeline.watching import bounded

FOLDER, START, SUPERVISOR = "KILOBATCH_LOG", "KILOBATCH_START", "KILOBATCH_SUPERVISOR"  # the environment of a rank
HEADER = "=== start "
TAIL_BYTES = 64 << 10  # in which the last lines are looked for
LINE_CHARACTERS = 1000  # of one of them that are shown
Event = dict[str, Any]
_noted: set[str] = set()


def environment(folder: Path, start: int) -> dict[str, str]:
    """What tells the ranks of a start where to write; this process is their supervisor."""
    return {FOLDER: str(folder), START: str(start), SUPERVISOR: f"{socket.gethostname()}:{os.getpid()}"}


def supervised() -> bool:
    return FOLDER in os.environ


def supervisor_has_ended() -> bool:
    """Whether the supervisor was on this machine and is not there any more."""
    host, _, pid = os.environ[SUPERVISOR].rpartition(":")
    if host == socket.gethostname():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
    return False


def log_of(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05d}.log"


def events_of(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05d}.jsonl"


class Both(io.TextIOBase):
    """Rank 0's stderr: its log and the terminal, or what stands between this and that."""

    encoding = "utf-8"

    def __init__(self, log: TextIO, terminal: TextIO) -> None:
        self.log = log
        self.terminal: Any = terminal  # a TextIO, or what writes to one

    def write(self, text: str) -> int:
        for stream in (self.log, self.terminal):
            with suppress(OSError):  # the disk is full, or the terminal was closed
                stream.write(text)
                stream.flush()
        return len(text)

    def isatty(self) -> bool:
        return bool(self.terminal.isatty())

    def fileno(self) -> int:
        return self.log.fileno()


def open_log() -> None:
    """From now on this rank's stderr is its log, that of libraries too; what Python says on rank 0 is here as well."""
    rank, folder = int(os.environ["RANK"]), Path(os.environ[FOLDER])
    path = log_of(folder, rank)
    terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 2)
    if rank:
        os.dup2(log, 1)
    os.close(log)
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    where = f"rank {rank} of {os.environ['WORLD_SIZE']}, process {os.getpid()} on {socket.gethostname()}"
    sys.stderr.write(f"{HEADER}{os.environ[START]}, {now}, {where}\n")
    sys.stderr.flush()
    faulthandler.enable()
    bounded.keep_bounded(path)
    if rank == 0:
        sys.stderr = Both(sys.stderr, terminal)


def note(event: str, **values: Any) -> None:
    """Append an event of this rank, with the time. A full disk must not hide what it causes."""
    if supervised():
        path = events_of(Path(os.environ[FOLDER]), int(os.environ["RANK"]))
        line = json.dumps({"time": time.time(), "start": int(os.environ[START]), "event": event, **values})
        with suppress(OSError), path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def note_once(event: str) -> None:
    """For a loop: the first time it comes here."""
    if event not in _noted:
        _noted.add(event)
        note(event)


def note_failure(error: BaseException) -> int:
    """Say how this rank ends; the exit code that goes with it. A defect leaves its traceback in the log."""
    is_users = isinstance(error, UserError)
    code = error.exit_code if isinstance(error, UserError) else RunError.exit_code
    restart = error.restart if isinstance(error, UserError) else True
    note("end", code=code, type=type(error).__name__, message=str(error), users=is_users, restart=restart)
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as log, suppress(OSError):
        if is_users:
            log.write(f"kilobatch: {error}\n")
        else:
            traceback.print_exception(error, file=log)
    return code


def read_events(folder: Path, start: int) -> dict[int, list[Event]]:
    """The events of every rank of a start, oldest first."""
    found: dict[int, list[Event]] = defaultdict(list)
    with suppress(OSError):  # a file system that is away now will tell more another time
        for path in sorted(folder.glob("rank-*.jsonl")):
            for line in path.read_bytes().splitlines():
                with suppress(ValueError):  # the last line of a killed rank may be torn
                    event = json.loads(line)
                    if event["start"] == start:
                        found[int(path.stem.removeprefix("rank-"))].append(event)
    return found


def last_lines(folder: Path, rank: int, count: int) -> list[str]:
    """The newest lines of a rank's log, none from before its last start; a very long one is cut."""
    path = log_of(folder, rank)
    text = _tail(path)
    if text is None:
        return []
    if len(text) < TAIL_BYTES and HEADER.encode() not in text:  # it was cut since the start began
        text = (_tail(bounded.before(path)) or b"") + text
    lines = text.decode("utf-8", "replace").splitlines()
    begin = max((i for i, line in enumerate(lines) if line.startswith(HEADER)), default=-1) + 1
    return [line[:LINE_CHARACTERS] for line in lines[begin:][-count:]]


def _tail(path: Path) -> bytes | None:
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read()
    return None
