"""SIGINT and SIGTERM end a run alike: as a KeyboardInterrupt, so that everything is unwound and nothing is left."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

_INTERVAL = 0.05  # seconds


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt out of the block when either signal came. Only the main thread may enter it.

    Beam turns a KeyboardInterrupt within a task into a RuntimeError with a long message; here it becomes one again.
    It would also wait for its worker processes to end, so every process that was started within the block is killed.
    Signals that follow the first one change nothing.
    """
    received: list[int] = []
    unwound = threading.Event()
    older = _children()

    def end_workers() -> None:
        while True:
            for process in _children() - older:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if unwound.wait(_INTERVAL):  # until then Beam may be starting one
                return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if received:
            return
        received.append(number)
        logging.disable(logging.CRITICAL)  # Beam would log tracebacks, here and in its threads
        threading.excepthook = lambda _: None
        threading.Thread(target=end_workers, daemon=True).start()
        raise KeyboardInterrupt

    excepthook = threading.excepthook
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
        if received:  # something below took it for its own
            raise KeyboardInterrupt
    except Exception:
        if received:
            raise KeyboardInterrupt from None
        raise
    finally:
        unwound.set()
        threading.excepthook = excepthook
        logging.disable(logging.NOTSET)
        if received:  # tasks in threads of this process live a little longer, and miss their folder
            logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        for number, previous in before.items():
            signal.signal(number, previous)


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))
