"""Kill a process at its n-th call that changes a folder on disk.

Counted are: opening a file to write, mkdir, fsync, rename, remove and rmdir, whichever code makes them and in whichever
thread: Python's audit events tell of them before they happen (of fsync none does, so it is wrapped). Nothing here knows
how a save works; what a save calls is found by a run that is not killed. A caller may count more of its own.
"""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_PATHS = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.rename": 2}  # event → where its first dir_fd stands


@dataclass(frozen=True)
class Watch:
    """What is counted, and where it ends.

    Args:
        folder: below which a call counts. log: a file that gets a line a call, `<kind> <path in folder>`.
        kill_at: the call before which the process is killed: its number, from 0, or a part of its line.
        once: a file that is made with the kill, and without which there is none: what is started again lives.
    """

    folder: Path
    log: Path
    kill_at: int | str | None = None
    once: Path | None = None


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def watch(what: Watch) -> Callable[[str], None]:
    """Count this process's calls from here on; what is returned counts one more, of a kind of the caller's."""
    root = f"{what.folder.absolute()}/"
    log = os.open(what.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    numbers = itertools.count()
    armed = what.kill_at is not None and not (what.once and what.once.exists())

    def called(kind: str, path: str) -> None:
        if path.startswith(root):
            number, line = next(numbers), f"{kind} {path.removeprefix(root)}"
            os.write(log, f"{line}\n".encode())
            if armed and (number == what.kill_at if isinstance(what.kill_at, int) else str(what.kill_at) in line):
                if what.once:
                    what.once.touch()
                kill_self()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes | os.PathLike) and flags & _WRITES:
                called("open", os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
        elif event in _PATHS:
            called(event.removeprefix("os."), _absolute(args[0], args[_PATHS[event]]))

    sys.addaudithook(hook)
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        called("fsync", _path_of(descriptor))
        real_fsync(descriptor)

    os.fsync = fsync
    return lambda kind: called(kind, root)


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115


def _absolute(path: Any, folder: int) -> str:
    name = os.fsdecode(path)
    return os.path.join(_path_of(folder), name) if folder >= 0 else os.path.abspath(name)  # noqa: PTH100, PTH118
