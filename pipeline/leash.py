"""A program that ends with the process that starts it: `python -m pipeline.leash PARENT PROGRAM ARGUMENT…`.

A command that is killed −9 can end nothing itself. Linux alone has a signal for it, which also ends a stopped process;
elsewhere the program is only started.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def leashed(program: list[str]) -> list[str]:
    """The command by which this process starts a program."""
    return [sys.executable, "-m", __name__, str(os.getpid()), *program]


def hold() -> None:
    """From now on this process is killed when its parent ends: the thread that started it, for Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(parent: int, program: list[str]) -> None:
    """Become the program, which is killed when its parent ends."""
    hold()
    if sys.platform == "linux" and os.getppid() != parent:  # it has ended already
        return
    os.execv(program[0], program)  # noqa: S606  (a list, and no shell)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
