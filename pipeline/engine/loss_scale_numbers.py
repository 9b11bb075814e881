"""What a checkpoint keeps of fp16's loss scale. No torch: manifests are read without it."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict


class LossScaleNumbers(TypedDict):
    """What a checkpoint keeps of a dynamic loss scale: the fields of DeepSpeed's scaler, and a count."""

    cur_scale: Annotated[float, Field(gt=0)]
    cur_iter: int
    last_overflow_iter: int
    cur_hysteresis: int
    overflows: int  # steps that were skipped because the scale was too large
