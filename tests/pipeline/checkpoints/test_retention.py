"""Which checkpoints stay: the last ones, every n-th, and the one that a roll-back goes to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checkpoints.retention import superfluous
from pipeline.pretrain_config import CheckpointConfig


@pytest.mark.parametrize(
    ("keep_last", "keep_every", "left"),
    [
        (1, None, [60]),
        (2, None, [50, 60]),
        (9, None, [10, 20, 30, 40, 50, 60]),
        (1, 20, [20, 40, 60]),
        (2, 30, [30, 50, 60]),
        (1, 70, [60]),
    ],
)
def test_the_last_and_every_nth_stay(keep_last: int, keep_every: int | None, left: list[int]) -> None:
    steps = [10, 20, 30, 40, 50, 60]
    gone = superfluous(steps, CheckpointConfig(every_steps=10, keep_last=keep_last, keep_every=keep_every))
    assert [step for step in steps if step not in gone] == left


def test_the_newest_regular_one_stays() -> None:
    """25 was saved by a stop: a roll-back goes to 20, as in a run that was not stopped."""
    assert superfluous([10, 20, 25], CheckpointConfig(every_steps=20, keep_last=1)) == [10]
    assert superfluous([10, 20, 25], CheckpointConfig(every_steps=25, keep_last=1)) == [10, 20]


@given(st.sets(st.integers(1, 400)), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5))
def test_pruning_at_each_save_or_once_at_the_end(saved: set[int], every: int, last: int, nth: int) -> None:
    """A run that prunes as it goes has what one that prunes at its end has, and at least `keep_last`."""
    steps = sorted(saved)
    keep = CheckpointConfig(every_steps=every, keep_last=last, keep_every=nth * every)
    there: list[int] = []
    for step in steps:
        there.append(step)
        there = [step for step in there if step not in superfluous(there, keep)]
    assert there == [step for step in steps if step not in superfluous(steps, keep)]
    assert there[-last:] == steps[-last:]
    assert {step for step in steps if step % (nth * every) == 0} <= set(there)
