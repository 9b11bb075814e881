"""Loading checkpoints: named tensors in safetensors, each element written once by one rank, all digested (laws 4, 6).

A rank writes (`pipeline.checkpoints.saving`) what it keeps (`Engine.fragments`) as one-dimensional ranges under the key
`<state>/<parameter>/<begin>`, so a checkpoint does not depend on the ZeRO stage, the precision or the number of ranks
that made it: whoever loads it reads the ranges that overlap its own.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from pipeline.checkpoints.ranges import read_ranges
from pipeline.engine.engine import Engine
from pipeline.errors import InputError, RunError


class Pieces:
    """The ranges of every tensor of a checkpoint, over all its files. The files must have been verified."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.shapes: dict[str, list[int]] = manifest["tensors"]
        self.states: dict[str, list[str]] = manifest["states"]
        self.ranges = read_ranges(folder, manifest)
        self.files = {name: safe_open(folder / name, framework="pt") for name in manifest["files"]}

    def read_into(self, state: str, name: str, begin: int, out: Tensor) -> None:
        """Fill a one-dimensional tensor with elements `begin` … of a parameter's state."""
        end = begin + out.numel()
        for first, last, file, key in self.ranges[f"{state}/{name}"]:
            low, high = max(begin, first), min(end, last)
            if low < high:
                out[low - begin : high - begin].copy_(self.files[file].get_slice(key)[low - first : high - first])

    def whole(self, name: str) -> Tensor:
        """The fp32 weights of one parameter, in its shape."""
        out = torch.empty(torch.Size(self.shapes[name]).numel())
        self.read_into("weight", name, 0, out)
        return out.view(self.shapes[name])


def load(folder: Path, manifest: dict[str, Any], engine: Engine) -> None:
    """Set weights and optimizer states from a verified checkpoint, at any world size, ZeRO stage and precision.

    Raises:
        InputError: they are another model's, or another optimizer's.
    """
    pieces = Pieces(folder, manifest)
    if (pieces.shapes, pieces.states) != (engine.shapes, engine.states):
        raise InputError(f"{folder}: holds other tensors than this recipe has; another program wrote it")
    for fragment in engine.fragments():
        for state, tensor in fragment.tensors.items():
            pieces.read_into(state, fragment.name, fragment.begin, tensor)
    engine.restored(manifest["updates"], manifest["loss_scale"])


def load_weights(folder: Path, manifest: dict[str, Any], model: torch.nn.Module) -> None:
    """Set a plain model's weights from a verified checkpoint.

    Raises:
        InputError: they are another model's. RunError: they are not all finite.
    """
    pieces = Pieces(folder, manifest)
    if pieces.shapes != {name: list(parameter.shape) for name, parameter in model.named_parameters()}:
        raise InputError(f"{folder}: holds other tensors than the model of its run has; another program wrote it")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(pieces.whole(name))
            if not parameter.isfinite().all():
                raise RunError(f"{folder}: {name} holds values that are not finite numbers: the run diverged")
