"""SIGINT and SIGTERM end a run alike: where it can be unwound, as a KeyboardInterrupt, so that nothing is left."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(unwinds: bool) -> Iterator[None]:
    """Raise KeyboardInterrupt out of the block when either signal came. Only the main thread may enter it.

    Beam turns a KeyboardInterrupt within a task into a RuntimeError with a long message; here it becomes one again.
    Where Beam has worker processes, it waits for them for ever when it is unwound: then (not `unwinds`) the signals end
    this process at once, the workers end when they miss it, and the next run removes the work folder.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        logging.disable(logging.CRITICAL)  # Beam would log a traceback
        raise KeyboardInterrupt

    handler = interrupt if unwinds else signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
        if received:  # something below took it for its own
            raise KeyboardInterrupt
    except Exception:
        if received:
            raise KeyboardInterrupt from None
        raise
    finally:
        logging.disable(logging.NOTSET)
        for number, previous in before.items():
            signal.signal(number, previous)
