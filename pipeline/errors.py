"""The errors a user meets: one line each, and the exit code that goes with it.

Anything else that is raised is a defect of ours and keeps its traceback (exit code 1).
"""

import difflib
import signal
from collections.abc import Iterable


class UserError(ValueError):
    """A one-line message for a person; `exit_code` is what the command returns.

    `restart`: whether the same run may do better from its last checkpoint.
    """

    exit_code = 1
    restart = False


class InputError(UserError):
    """The user's input is wrong: says which file, key or line, what was found and what is accepted."""

    exit_code = 2


class DigestError(UserError):
    """A file is not what its manifest says: names the file, the expected and the found digest."""

    exit_code = 3


class Unreadable(DigestError):
    """A file could not be read, which says nothing of what it holds: it may be another time, or by another machine.

    Args:
        number: the system's.
    """

    restart = True

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number


class Stopped(UserError):
    """The run stopped after a checkpoint: submit the same command again and it goes on (EX_TEMPFAIL)."""

    exit_code = 75


class RunError(UserError):
    """A run cannot go on though its input is right: the disk is full, a process was killed."""

    restart = True


class Diverged(RunError):
    """The weights are of no use any more, and would be again."""

    restart = False


class LeftAtOnce(UserError):
    """A second stop signal: nothing was waited for."""

    def __init__(self, number: int) -> None:
        super().__init__(f"left at once on a second {signal.Signals(number).name}; run it again to go on")
        self.exit_code = 128 + number


def nearest(name: str, accepted: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the accepted name closest to `name`, or what is accepted when none is close."""
    names = sorted(accepted)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; accepted: {', '.join(names)}"
