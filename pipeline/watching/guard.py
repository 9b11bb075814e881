"""Guard rails: which steps are skipped, when a run rolls back, and when it gives up. No torch.

Every rank sees the same loss and norm, summed over all of them, so every rank decides the same.
"""

import math
from typing import Annotated

from pydantic import Field

from pipeline.configfile import Config, Positive
from pipeline.errors import Diverged
from pipeline.samples.position import Position

ADVICE = "lower optimizer.learning_rate, or set optimizer.max_grad_norm"


class GuardConfig(Config):
    """A step whose loss or gradient is not finite is skipped on all ranks."""

    skips_before_rollback: Positive = 3  # in a row: then back to the last checkpoint before them, and past that data
    rollbacks_to_one_checkpoint: Positive = 2  # more would show that the data is not what breaks the run
    spike_sigmas: Annotated[float, Field(gt=0)] = 6.0  # robust standard deviations above the window's median
    spike_window: Positive = 100  # steps
    # steps; what ranks hold copies of is compared so often, and before every checkpoint; 0: never
    compare_replicas_every: Annotated[int, Field(ge=0)] = 100


def unsound(loss: float, grad_norm: float, bad_ranks: int, bad_rank: int) -> str | None:
    """Why a step must not be applied; None if it may.

    Args:
        bad_ranks: how many ranks had a loss that is not finite. bad_rank: which one, if it is one.
    """
    if not math.isfinite(loss):
        return f"the loss is {loss}" + {0: "", 1: f" on rank {bad_rank}"}.get(bad_ranks, f" on {bad_ranks} ranks")
    if not math.isfinite(grad_norm):
        return f"the gradient norm is {grad_norm}"
    return None


class Guard:
    """Decides by the settings alone; what it has to remember is part of a position, and saved with it."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config

    def must_roll_back(self, position: Position) -> bool:
        return position.skipped_in_a_row >= self.config.skips_before_rollback

    def must_compare(self, step: int, save: bool) -> bool:
        """Whether the ranks' copies are compared after so many steps; before a save they always are."""
        every = self.config.compare_replicas_every
        return every > 0 and (save or step % every == 0)

    def check_roll_back(self, position: Position, target: int | None, reason: str) -> None:
        """Called before going back to the checkpoint of step `target` (None: there is none).

        Raises:
            Diverged: there is none, or going back to it did not help.
        """
        broken = f"step {position.step}: {reason}, {position.skipped_in_a_row} steps in a row"
        if target is None:
            raise Diverged(
                f"{broken}, and no checkpoint is from before them: the run has diverged and nothing was saved of it;"
                f" {ADVICE}"
            )
        times = position.rollbacks_to(target)
        if times >= self.config.rollbacks_to_one_checkpoint:
            raise Diverged(
                f"{broken}, again after {times} roll-back(s) to step {target}: the run has diverged and"
                f" nothing was saved of it; {ADVICE}"
            )
