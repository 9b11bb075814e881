"""The settings of one fine-tuning run; no torch here, so that `--help` and a wrong key cost no import."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.configfile import Config


class FinetuneConfig(Config):
    """Text classification from an exported model.

    Attributes:
        task: what is learned; `text-classification` is one label a text, from a linear head on `<s>`.
        model: what `kilobatch export` wrote, or any Hugging Face encoder folder with safetensors weights.
        output: folder to create.
        train, valid: JSONL, one object a line with `text` (text) and `label` (text, or whole numbers throughout).
        epochs: passes over `train`; both sets of weights get the same number.
        learning_rate: the peak; linear warm-up, then linear decay to zero.
        batch_size: examples an update, on any machine.
        warmup_fraction: part of all updates that the warm-up takes.
        weight_decay: AdamW's, on all but biases and layer norms.
        max_length: tokens a text at most, special tokens included; the rest is cut off.
        seed: of the head's weights, the order of examples and dropout.
        baseline: also train the same architecture from random weights, with the same settings, and print the margin.
    """

    task: Literal["text-classification"] = "text-classification"
    model: Path
    output: Path
    train: Path
    valid: Path
    epochs: Annotated[int, Field(ge=1, lt=2**31)] = 3
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5e-5
    batch_size: Annotated[int, Field(ge=1, lt=2**31)] = 32
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.06
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    max_length: Annotated[int, Field(ge=3, lt=2**31)] = 128
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    baseline: bool = False
