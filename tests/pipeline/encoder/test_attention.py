"""Attention without padding is `scaled_dot_product_attention`, and with dropout the same under the same mask."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.encoder import attention
from pipeline.encoder.attention import attend, padded
from pipeline.encoder.dropout import draw, dropped_share
from pipeline.samples.sequences import Sequences

HEADS, WIDTH = 3, 12
LENGTHS = [(5, 5, 5), (7, 1, 12, 2), (9,)]


def plain(qkv: Tensor, lengths: tuple[int, ...], p: float) -> Tensor:
    """Dense attention of each sequence with the mask that `attend` draws: head by head in blocks, in order."""
    outs = []
    for piece in qkv.split(lengths):
        q, k, v = piece.view(len(piece), 3, HEADS, -1).permute(1, 2, 0, 3)
        weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[2])).softmax(-1)
        if p:
            kept = torch.ones(weights.numel(), dtype=weights.dtype)
            kept[draw(weights.numel(), p)] = 0
            weights = weights * kept.view(weights.shape) / (1 - dropped_share(p))
        outs.append((weights @ v).transpose(0, 1).reshape(len(piece), -1))
    return torch.cat(outs)


def of(lengths: tuple[int, ...]) -> Sequences:
    return Sequences.of(np.array(lengths))


def inputs(lengths: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    qkv = torch.randn(sum(lengths), 3 * WIDTH, generator=generator, dtype=torch.float64).to(dtype)
    return qkv.requires_grad_(), torch.randn(sum(lengths), WIDTH, generator=generator, dtype=torch.float64).to(dtype)


def with_gradient(out: Tensor, up: Tensor, qkv: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(out, qkv, up)
    return out, gradient


@pytest.mark.parametrize("p", [0.0, 0.2])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("kept", [0, 2**21])
def test_it_is_dense_attention_with_the_same_mask_gradients_included(
    monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...], p: float, kept: int
) -> None:
    monkeypatch.setattr(attention, "KEPT", kept)
    qkv, up = inputs(lengths)
    torch.manual_seed(4)
    expected = with_gradient(plain(qkv, lengths, p), up, qkv)
    torch.manual_seed(4)
    torch.testing.assert_close(with_gradient(attend(qkv, of(lengths), HEADS, p), up, qkv), expected)


def test_the_gradient_is_that_of_finite_differences() -> None:
    qkv, _ = inputs((4, 3))

    def function(qkv: Tensor) -> Tensor:
        torch.manual_seed(5)
        return attend(qkv, of((4, 3)), HEADS, 0.3)

    assert torch.autograd.gradcheck(function, (qkv,))


@pytest.mark.parametrize("p", [0.0, 0.2])
def test_the_size_of_a_block_changes_which_elements_are_dropped_but_not_what_is_computed(
    monkeypatch: pytest.MonkeyPatch, p: float
) -> None:
    """One head at a time draws for each head; blocks are a constant of the program, so noise stays a function."""
    qkv, up = inputs((6, 6))
    monkeypatch.setattr(attention, "BLOCK", 1)
    torch.manual_seed(6)
    got = with_gradient(attend(qkv, of((6, 6)), HEADS, p), up, qkv)
    torch.manual_seed(6)
    heads = []
    for piece in qkv.split(6):
        for head in range(HEADS):
            q, k, v = piece.view(6, 3, HEADS, -1)[:, :, head].unbind(1)
            weights = (q @ k.t() / math.sqrt(q.shape[1])).softmax(-1)
            kept = torch.ones(36, dtype=torch.float64)
            if p:
                kept[draw(36, p)] = 0
            heads.append(weights * kept.view(6, 6) / (1 - (dropped_share(p) if p else 0)) @ v)
    expected = torch.stack(heads).view(2, HEADS, 6, -1).transpose(1, 2).reshape(12, -1)
    torch.testing.assert_close(got, with_gradient(expected, up, qkv))


@pytest.mark.parametrize("p", [0.0, 0.2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
def test_a_half_precision_is_as_near_as_it_can_be(dtype: torch.dtype, tolerance: float, p: float) -> None:
    lengths = (16, 9)
    exact, up = inputs(lengths)
    rounded = exact.detach().to(dtype).requires_grad_()
    torch.manual_seed(7)
    expected = with_gradient(attend(rounded.double(), of(lengths), HEADS, p), up, rounded)
    torch.manual_seed(7)
    found = with_gradient(attend(rounded, of(lengths), HEADS, p), up.to(dtype), rounded)
    for left, right in zip(found, expected, strict=True):
        assert left.dtype == dtype
        torch.testing.assert_close(left.double(), right.double(), atol=tolerance, rtol=tolerance)


def test_without_dropout_it_is_that_of_torch() -> None:
    qkv, _ = inputs((8, 8), torch.float32)
    q, k, v = qkv.view(2, 8, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    expected = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(16, -1)
    torch.testing.assert_close(attend(qkv, of((8, 8)), HEADS, 0.0), expected)


def test_dropout_keeps_the_expectation() -> None:
    qkv, _ = inputs((6, 3), torch.float32)
    torch.manual_seed(8)
    mean = torch.stack([attend(qkv.detach(), of((6, 3)), HEADS, 0.1) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, attend(qkv.detach(), of((6, 3)), HEADS, 0.0), atol=0.05, rtol=0)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_by_a_mask_it_is_the_same(lengths: tuple[int, ...]) -> None:
    qkv, up = inputs(lengths)
    expected = with_gradient(attend(qkv, of(lengths), HEADS, 0.0), up, qkv)
    torch.testing.assert_close(with_gradient(padded(qkv, of(lengths), HEADS, 0.0), up, qkv), expected)
