"""What an update is: the optimizer and its learning rate's schedule. No torch."""

import math
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from pipeline.configfile import Config, Positive, Share

Moment = Annotated[float, Field(ge=0, lt=1)]  # of Adam: at 1 nothing would ever be forgotten


class OptimizerConfig(Config):
    """AdamW as in RoBERTa (table 9): β₂ = 0.98 and ε = 1e-6 for large batches; no decay on biases and norms."""

    learning_rate: Annotated[float, Field(gt=0)]
    beta1: Moment = 0.9
    beta2: Moment = 0.98
    eps: Annotated[float, Field(gt=0)] = 1e-6
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(ge=0)] = 0.0  # 0: no clipping, as RoBERTa


class ScheduleConfig(Config):
    """Linear warm-up, then linear decay to zero at `total_steps` (RoBERTa, table 9)."""

    total_steps: Positive
    warmup_fraction: Share = 0.06

    @property
    def warmup_steps(self) -> int:
        return math.ceil(Decimal(str(self.warmup_fraction)) * self.total_steps)  # 0.07 × 100 is over 7 in binary
