"""What an update is: the optimizer and its learning rate's schedule. No torch."""

import math
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from pipeline.configfile import Config, Positive, Share

Moment = Annotated[float, Field(ge=0, lt=1)]  # of Adam: at 1 nothing would ever be forgotten


class _Optimizer(Config):
    """What all have. Biases and norms do not decay."""

    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(ge=0)] = 0.0  # of the whole gradient; 0: no clipping, as RoBERTa


class AdamWConfig(_Optimizer):
    """AdamW as in RoBERTa (table 9): β₂ = 0.98 and ε = 1e-6 for large batches."""

    type: Literal["adamw"] = "adamw"  # where none is given
    beta1: Moment = 0.9
    beta2: Moment = 0.98
    eps: Annotated[float, Field(gt=0)] = 1e-6


class LambConfig(_Optimizer):
    """LAMB (You et al. 2020) as its authors trained BERT with batches of up to 32K sequences."""

    type: Literal["lamb"] = "lamb"
    beta1: Moment = 0.9
    beta2: Moment = 0.999
    eps: Annotated[float, Field(gt=0)] = 1e-6


class MuonConfig(_Optimizer):
    """Muon (Jordan et al. 2024) for the layers' matrices; the β and ε are AdamW's, for all else.

    `newton_schulz_dtype` is what matrices are orthogonalised and sent in. bf16 halves their traffic and is many times
    faster on GPUs (on a CPU without products in bf16 it is many times slower), but knows an update to 1 part in 256.
    """

    type: Literal["muon"] = "muon"
    momentum: Moment = 0.95
    newton_schulz_dtype: Literal["fp32", "bf16"] = "fp32"
    beta1: Moment = 0.9
    beta2: Moment = 0.98
    eps: Annotated[float, Field(gt=0)] = 1e-6


def _type_of(value: Any) -> Any:
    """The tag of an optimizer; AdamW where none is given."""
    return value.get("type", "adamw") if isinstance(value, dict) else getattr(value, "type", "adamw")


OptimizerConfig = Annotated[
    Annotated[AdamWConfig, Tag("adamw")] | Annotated[LambConfig, Tag("lamb")] | Annotated[MuonConfig, Tag("muon")],
    Discriminator(_type_of),
]


class ScheduleConfig(Config):
    """Linear warm-up, then linear decay to zero at `total_steps` (RoBERTa, table 9)."""

    total_steps: Positive
    warmup_fraction: Share = 0.06

    @property
    def warmup_steps(self) -> int:
        return math.ceil(Decimal(str(self.warmup_fraction)) * self.total_steps)  # 0.07 × 100 is over 7 in binary
