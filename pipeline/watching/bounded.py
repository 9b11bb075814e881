"""A log that several processes append to, through descriptors of their own, and that stays below a bound.

It is cut where it is: a new file under its name would be written by whoever opens that, and the old one, which nobody
sees any more, would go on growing.
"""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 16 << 20
LOOK_SECONDS = 5.0  # it is longer by what is written in the meantime


def before(path: Path) -> Path:
    """What a log had before it was last cut, of that the end."""
    return path.with_name(f"{path.name}.1")


def cut(path: Path) -> None:
    """Empty a log of more than `MOST_BYTES`, of which so many stay in another file.

    What is written between the copy and the cut, a moment later, is lost.
    """
    if path.stat().st_size > MOST_BYTES:
        with path.open("rb+") as log:
            log.seek(-MOST_BYTES, os.SEEK_END)
            with suppress(OSError), before(path).open("wb") as kept:  # a full disk has all the more need of a cut
                kept.write(log.read(MOST_BYTES))
                kept.write(log.read(MOST_BYTES))  # what has come since
            log.truncate(0)


def keep_bounded(path: Path) -> None:
    """For as long as this process lives."""
    threading.Thread(target=_watch, args=(path,), name="log", daemon=True).start()


def _watch(path: Path) -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        with suppress(OSError):  # it was deleted, or the file system is away
            cut(path)
