"""Which step a run is at and which data comes next. No torch.

A step's learning rate is a function of its number, its data of `data_step`. They are the same until a roll-back: the
run then does steps again, but with the data behind what broke it, so that the data's number is ahead from then on. All
of it is saved with a checkpoint, so that a run that was stopped goes on as if it had not been.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Position:
    """Between two steps.

    Args:
        step: steps done. jumps: how far the data is ahead of them.
        skipped_in_a_row: of the last steps, how many left the weights as they were.
        rolled_back_to: the checkpoint's step that the last roll-back went to; −1: there was none. rollbacks: in a row
            to that one.
    """

    step: int = 0
    jumps: int = 0
    skipped_in_a_row: int = 0
    rolled_back_to: int = -1
    rollbacks: int = 0

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> "Position":
        """Where a checkpoint was saved."""
        return cls(**{field.name: manifest[field.name] for field in fields(cls)})

    @property
    def data_step(self) -> int:
        """The data of the next step: batches are numbered as if nothing had ever been passed over."""
        return self.step + self.jumps

    def after(self, *, skipped: bool) -> "Position":
        """One step later."""
        return replace(self, step=self.step + 1, skipped_in_a_row=self.skipped_in_a_row + 1 if skipped else 0)

    def rolled_back(self, manifest: dict[str, Any]) -> "Position":
        """At a checkpoint before here, with the data that would come next here."""
        step = manifest["step"]
        return Position(step, self.data_step - step, rolled_back_to=step, rollbacks=self.rollbacks_to(step) + 1)

    def rollbacks_to(self, step: int) -> int:
        """How often the run went back to that checkpoint and no other since."""
        return self.rollbacks if step == self.rolled_back_to else 0

    def stamp(self) -> dict[str, int]:
        """What a checkpoint's manifest says of it, beside the step."""
        return {name: value for name, value in asdict(self).items() if name != "step"}
