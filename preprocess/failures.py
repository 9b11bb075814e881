"""What the machine refuses, in one line: a full disk, a file that may not be read."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InputError, RunError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns what the operating system refuses into a user's error.

    Args:
        folder: where the block writes; writing does not say which file it was.

    Raises:
        RunError: there is no space left. InputError: a file cannot be opened.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise RunError(f"{folder}: {errno.errorcode[error.errno]}: no space is left to write to") from None
        if error.filename is None or isinstance(error, ConnectionError):
            raise
        raise InputError(f"{error.filename}: {error.strerror}") from None
