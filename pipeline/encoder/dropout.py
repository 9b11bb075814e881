"""Dropout with few random numbers: on a CPU, drawing them costs `nn.functional.dropout` more than its arithmetic.

What is drawn is not a decision for every element but the gap from one dropped element to the next, which is
geometrically distributed: at 10 % a tenth of the numbers, 16 bits each, and the dropped positions to keep for the
backward pass instead of a mask. On other devices it is torch's own.
"""

import functools
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST = 0.5  # above this there are no gaps worth the name


class Dropout(nn.Module):
    """`nn.Dropout` with the numbers of this file."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, hidden: Tensor) -> Tensor:
        return dropout(hidden, self.p) if self.training else hidden


def dropout(hidden: Tensor, p: float) -> Tensor:
    """Zero a share `p` of the elements at random and scale the others, so that the expectation stays.

    Random numbers come from torch's default generator alone: the same seed drops the same elements, whatever the dtype
    and the number of threads.
    """
    if p == 0:
        return hidden
    return F.dropout(hidden, p) if hidden.device.type != "cpu" or p > MOST else _by_gaps(hidden, p)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # numpy is not for programs of tensors
def _by_gaps(hidden: Tensor, p: float) -> Tensor:
    dropped: Tensor = _Dropout.apply(hidden, p)  # type: ignore[no-untyped-call]
    return dropped


def draw(elements: int, p: float) -> Tensor:
    """Ascending flat positions of what is dropped among so many elements; int64 on the CPU."""
    gaps = _gaps(p)
    expected = elements * dropped_share(p)
    count = int(expected + 8 * math.sqrt(expected)) + 8  # too few by chance once in 10¹⁵
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(
        -(2**63), None
    )  # four numbers a call of the generator
    positions = gaps.index_select(0, words.view(torch.int16).int() + 2**15).cumsum_(0) - 1
    return positions[: int(torch.searchsorted(positions, elements))]


@functools.cache
def dropped_share(p: float) -> float:
    """The share that `draw` drops: `p` within 2⁻¹⁵, what is kept is scaled by it exactly."""
    return 1 / float(_gaps(p).double().mean())


def zero_(tensor: Tensor, positions: Tensor) -> None:
    """Zero the elements at flat positions of a contiguous tensor on the CPU: numpy needs half the time of torch."""
    assert tensor.is_contiguous()
    bits = tensor.detach().view(-1)
    (bits.view(torch.int16) if bits.dtype == torch.bfloat16 else bits).numpy()[positions.numpy()] = 0


@functools.cache
def _gaps(p: float) -> Tensor:
    """The inverse of the geometric distribution at 2¹⁶ equally likely points: gap to the next dropped element, ≥ 1."""
    points = (np.arange(2**16) + 0.5) / 2**16
    return torch.from_numpy(np.ceil(np.log1p(-points) / np.log1p(-p)).astype(np.int64))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, p: float) -> Tensor:
        ctx.positions, ctx.scale = draw(hidden.numel(), p), 1 / (1 - dropped_share(p))
        return _drop(hidden, ctx.positions, ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _drop(gradients[0], ctx.positions, ctx.scale), None


def _drop(tensor: Tensor, positions: Tensor, scale: float) -> Tensor:
    scaled = tensor.contiguous() * scale
    zero_(scaled, positions)
    return scaled
