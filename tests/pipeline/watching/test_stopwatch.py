"""A lap's seconds and what of them was waited, by a clock that the test moves."""

from collections.abc import Iterator

import pytest

from pipeline.watching import stopwatch
from pipeline.watching.stopwatch import Stopwatch


class Clock:
    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_waited_is_the_time_until_an_item_is_there(clock: Clock) -> None:
    def read() -> Iterator[int]:
        for item in range(3):
            clock.now += 2
            yield item
        clock.now += 0.5  # the end is waited for too

    watch = Stopwatch()
    items = []
    for item in watch.waiting(read()):
        clock.now += 10
        items.append(item)
    assert items == [0, 1, 2]
    assert watch.waited == 6.5
    assert watch.lap() == 36.5
    assert (watch.waited, watch.lap()) == (0.0, 0.0)


def test_what_is_no_part_of_a_step_is_forgotten(clock: Clock) -> None:
    watch = Stopwatch()
    clock.now += 7
    watch.restart()
    clock.now += 1
    assert watch.lap() == 1.0


def test_an_error_of_the_loader_is_the_loops(clock: Clock) -> None:
    def read() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    items = Stopwatch().waiting(read())
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)
