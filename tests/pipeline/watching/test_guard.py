"""Which steps are skipped, when a run goes back, where it goes on, and when it gives up."""

import math
from dataclasses import replace

import pytest

from pipeline.errors import RunError
from pipeline.samples.position import Position
from pipeline.watching.guard import Guard, GuardConfig, unsound


@pytest.mark.parametrize(
    ("loss", "norm", "bad_ranks", "reason"),
    [
        (2.0, 1.0, 0, None),
        (2.0, 0.0, 0, None),
        (math.nan, 1.0, 1, "the loss is nan on rank 3"),
        (math.inf, math.nan, 2, "the loss is inf on 2 ranks"),
        (math.inf, 1.0, 0, "the loss is inf"),  # finite on every rank, and the sum is not
        (2.0, math.nan, 0, "the gradient norm is nan"),
        (2.0, math.inf, 0, "the gradient norm is inf"),
    ],
)
def test_what_is_not_finite_is_not_applied(loss: float, norm: float, bad_ranks: int, reason: str | None) -> None:
    assert unsound(loss, norm, bad_ranks, 3) == reason


def manifest(step: int, jumps: int = 0) -> dict[str, int]:
    return {"step": step, **Position(step, jumps).stamp()}


def test_data_is_ahead_of_the_steps_after_a_roll_back() -> None:
    position = Position()
    for skipped in (False, True, False, True, True, True):
        position = position.after(skipped=skipped)
    assert (position.step, position.data_step, position.skipped_in_a_row) == (6, 6, 3)
    back = position.rolled_back(manifest(2))
    assert (back.step, back.data_step, back.skipped_in_a_row) == (2, 6, 0)
    later = back.after(skipped=False).after(skipped=True)
    assert (later.step, later.data_step) == (4, 8)
    assert Position.of({"step": 4, **later.stamp()}) == later
    assert later.rolled_back(manifest(2, jumps=4)).data_step == 8  # data never comes twice


def test_three_skipped_in_a_row_roll_back() -> None:
    guard = Guard(GuardConfig())
    assert [guard.must_roll_back(Position(9, 0, skipped)) for skipped in (0, 1, 2, 3)] == [False, False, False, True]
    assert Guard(GuardConfig(skips_before_rollback=1)).must_roll_back(Position(9, 0, 1))


def gone_back(position: Position, *targets: int) -> Position:
    """After three skipped steps in a row at a time, each time back to the next checkpoint."""
    guard = Guard(GuardConfig())
    for target in targets:
        position = replace(position, step=9, skipped_in_a_row=3)
        guard.check_roll_back(position, target, "the loss is nan")
        position = position.rolled_back(manifest(target)).after(skipped=False)
    return position


def test_going_back_to_the_same_checkpoint_is_tried_twice() -> None:
    with pytest.raises(
        RunError, match=r"step 9: the loss is nan, 3 steps in a row, again after 2 roll-back.s. to step 4"
    ):
        gone_back(gone_back(Position(), 4, 4), 4)


def test_a_start_counts_on_from_its_checkpoint() -> None:
    saved = gone_back(Position(), 4, 4)
    assert (saved.rolled_back_to, saved.rollbacks) == (4, 2)
    with pytest.raises(RunError, match="again after 2 roll-back"):
        gone_back(Position.of({"step": saved.step, **saved.stamp()}), 4)


def test_a_checkpoint_in_between_is_progress() -> None:
    assert gone_back(Position(), 4, 4, 6, 6, 8).rollbacks == 1


def test_without_a_checkpoint_there_is_nothing_to_go_back_to() -> None:
    with pytest.raises(RunError, match="no checkpoint is from before them: the run has diverged"):
        Guard(GuardConfig()).check_roll_back(Position(3, 0, 3), None, "the loss is inf")
