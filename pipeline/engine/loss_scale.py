"""The loss scale of fp16: what losses are multiplied by, so that their gradients are not too small for fp16.

DeepSpeed's scaler has the numbers and multiplies the loss. It is moved here, between the steps: DeepSpeed 0.19.8 moves
it inside of them, behind the norm and before the gradient is divided by it, so that a step at which it doubles
would be half of what it should be.
"""

import math
from typing import Any

from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler

from pipeline.engine.loss_scale_numbers import LossScaleNumbers


class LossScale:
    """Of DeepSpeed's fp16 optimizers, at stages 1 to 3.

    Attributes:
        overflows: steps so far that were skipped because the scale was too large for them.
    """

    def __init__(self, optimizer: Any) -> None:
        self.scaler = optimizer.loss_scaler
        optimizer._update_scale = lambda overflow=False: None  # on the object, before the method of its class
        self.overflows = 0
        self.initial = self.numbers()

    @property
    def value(self) -> float:
        return float(self.scaler.cur_scale)

    def too_large(self, loss: float, grad_norm: float) -> bool:
        """Whether a smaller scale may mend a step: its gradient alone is not finite, and the scale can fall."""
        if not isinstance(self.scaler, DynamicLossScaler) or self.value <= self.scaler.min_scale:
            return False
        return math.isfinite(loss) and not math.isfinite(grad_norm)

    def move(self, *, overflow: bool) -> None:
        """After a step that was applied, or that was skipped because the scale was too large."""
        self.overflows += overflow
        self.scaler.update_scale(overflow)

    def numbers(self) -> LossScaleNumbers | None:
        """None where the scale is static."""
        if not isinstance(self.scaler, DynamicLossScaler):
            return None
        return {
            "cur_scale": self.value,
            "cur_iter": self.scaler.cur_iter,
            "last_overflow_iter": self.scaler.last_overflow_iter,
            "cur_hysteresis": self.scaler.cur_hysteresis,
            "overflows": self.overflows,
        }

    def restore(self, numbers: LossScaleNumbers | None) -> None:
        """As a checkpoint has it; one without begins the scale anew. A static scale stays."""
        if (numbers := numbers or self.initial) is None or self.initial is None:
            return
        for name in ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis"):
            setattr(self.scaler, name, numbers[name])
        self.overflows = numbers["overflows"]
