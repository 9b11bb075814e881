"""Where the seconds of a step go, by the host's clock alone: nothing waits for the device to be timed.

The loop reads the device once a step, so the host is never more than a step ahead and its laps are the device's.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from torch.profiler import record_function

T = TypeVar("T")


class Stopwatch:
    """Runs from its making; `lap` reads it and starts the next lap.

    Args:
        tell: called with "data wait" before every wait.
    """

    def __init__(self, tell: Callable[[str], None] = lambda part: None) -> None:
        self.tell = tell
        self.restart()

    def restart(self) -> None:
        """Forget what has passed: an evaluation or a save is no part of a step."""
        self.begin, self.waited = time.perf_counter(), 0.0

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """The items, while the time until each of them is there counts as waited."""
        iterator = iter(items)
        while True:
            self.tell("data wait")
            asked = time.perf_counter()
            try:
                with record_function("data wait"):
                    item = next(iterator)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - asked
            yield item

    def lap(self) -> float:
        """Seconds since the last lap; the next one begins."""
        seconds = time.perf_counter() - self.begin
        self.restart()
        return seconds
