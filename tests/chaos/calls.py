"""Kill a process before one of the calls by which it changes a folder on disk.

Such calls are: opening a file to write, mkdir, fsync, rename, remove and rmdir, whichever code makes them and in
whichever thread: Python's audit events tell of them before they happen (of fsync none does, so it is wrapped). Nothing
here knows how a save works; what a save calls is found by a run that is not killed. A caller may tell of more calls.
"""

import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_PATHS = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.rename": 2}  # event → where its first dir_fd stands
_DRAWN = re.compile(r"\.tmp-[0-9a-f]{8}-")  # a temporary name, another each time


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Watch:
    """Which calls are written down, and before which one the process is killed.

    Args:
        folder: the calls below it count. log: a file that gets a line a call, `<kind> <path in folder>`.
        kill_at: a pattern of the whole line; nothing is killed without. number: of the calls that match it, from 0.
        kill: does it.
    """

    folder: Path
    log: Path
    kill_at: str | None = None
    number: int = 0
    kill: Callable[[], None] = kill_self


def watch(what: Watch) -> Callable[[str], None]:
    """Note this process's calls from here on; what is returned tells of one more, of a kind of the caller's."""
    root = f"{what.folder.absolute()}/"
    log = os.open(what.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    matched = Counter[None]()

    def called(kind: str, path: str = root) -> None:
        if path.startswith(root):
            line = _DRAWN.sub(".tmp-", f"{kind} {path.removeprefix(root)}")
            os.write(log, f"{line}\n".encode())
            if what.kill_at is not None and re.fullmatch(what.kill_at, line):
                matched[None] += 1
                if matched[None] == what.number + 1:
                    what.kill()

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
    return called


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115


def _absolute(path: Any, folder: int) -> str:
    name = os.fsdecode(path)
    return os.path.join(_path_of(folder), name) if folder >= 0 else os.path.abspath(name)  # noqa: PTH100, PTH118
