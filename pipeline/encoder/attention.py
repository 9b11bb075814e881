"""Self-attention of several sequences that stand one behind the other, without padding between them.

Sequences of one length are `scaled_dot_product_attention`'s; of different lengths, FlashAttention's on GPUs. On a CPU
neither has a fast path with dropout (separate passes over B·H·T² numbers, one drawn for each), so there is one here.

Shape suffixes: S tokens of all sequences, T of one, D hidden, H heads, d hidden of a head.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from pipeline.encoder.dropout import MOST, draw, dropped_share, zero_
from pipeline.samples.sequences import Sequences

BLOCK = 2**20  # attention weights computed at once: they stay in the cache from one pass to the next
KEPT = 2**21  # attention weights of a layer that are kept for the backward pass; more are computed again


def attend(qkv_SX: Tensor, sequences: Sequences, heads: int, dropout: float) -> Tensor:
    """Softmax attention of each token to all tokens of its sequence.

    Args:
        qkv_SX: queries, keys and values (S, 3·D). dropout: of the weights.

    Returns:
        (S, D)
    """
    if qkv_SX.device.type == "cpu":
        out_SD: Tensor = _on_cpu(qkv_SX, sequences.lengths, heads, dropout)
        return out_SD
    count, longest = len(sequences.starts) - 1, sequences.longest
    if count * longest == len(qkv_SX):
        return _equal(qkv_SX, count, heads, dropout)
    if dropout == 0 and _has_flash(qkv_SX):
        q, k, v = qkv_SX.view(len(qkv_SX), 3, heads, -1).unbind(1)
        out_SHd = varlen_attn(q, k, v, sequences.starts, sequences.starts, longest, longest)
        assert isinstance(out_SHd, Tensor)
        return out_SHd.reshape(len(qkv_SX), -1)
    return padded(qkv_SX, sequences, heads, dropout)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # numpy and lengths are not for programs of tensors
def _on_cpu(qkv_SX: Tensor, lengths: tuple[int, ...], heads: int, dropout: float) -> Tensor:
    if _has_no_products(qkv_SX.dtype):  # they take 20 times as long
        exact: Tensor = _on_cpu(qkv_SX.float(), lengths, heads, dropout)
        return exact.to(qkv_SX.dtype)
    if 0 < dropout <= MOST:
        blocked: Tensor = _Blocked.apply(qkv_SX, lengths, heads, dropout)  # type: ignore[no-untyped-call]
        return blocked
    if len(set(lengths)) == 1:
        return _equal(qkv_SX, len(lengths), heads, dropout)
    return torch.cat([_equal(piece, 1, heads, dropout) for piece in torch.split(qkv_SX, list(lengths))])


def _has_no_products(dtype: torch.dtype) -> bool:
    """Whether this CPU has no units for a half precision."""
    if dtype == torch.bfloat16:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float16 and not torch.ops.mkldnn._is_mkldnn_fp16_supported()


def _equal(qkv_SX: Tensor, sequences: int, heads: int, dropout: float) -> Tensor:
    """Sequences of the same length."""
    q, k, v = qkv_SX.view(sequences, -1, 3, heads, qkv_SX.shape[1] // (3 * heads)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).reshape(len(qkv_SX), -1)


def _has_flash(qkv_SX: Tensor) -> bool:
    """Whether the device has FlashAttention over sequences of different lengths (which has no dropout)."""
    half = qkv_SX.dtype in (torch.float16, torch.bfloat16)
    return half and torch.cuda.get_device_capability(qkv_SX.device) >= (8, 0)


def padded(qkv_SX: Tensor, sequences: Sequences, heads: int, dropout: float) -> Tensor:
    """The same by a mask, for devices without a better way: rows of the longest length, keys behind the ends hidden."""
    count, longest, cells = len(sequences.starts) - 1, sequences.longest, sequences.cells()
    dense = qkv_SX.new_zeros(count * longest, qkv_SX.shape[1]).index_copy(0, cells, qkv_SX)
    q, k, v = dense.view(count, longest, 3, heads, -1).permute(2, 0, 3, 1, 4)
    visible = torch.arange(longest, device=cells.device) < sequences.starts.diff()[:, None]
    out = F.scaled_dot_product_attention(q, k, v, visible[:, None, None, :], dropout)
    return out.transpose(1, 2).flatten(0, 1).flatten(1).index_select(0, cells)


class _Blocked(torch.autograd.Function):
    """Attention with dropout on a CPU, block by block of some heads of one sequence."""

    @staticmethod
    def forward(ctx: Any, qkv_SX: Tensor, lengths: tuple[int, ...], heads: int, p: float) -> Tensor:
        qkv = qkv_SX.contiguous().view(len(qkv_SX), 3, heads, -1)
        keep = sum(heads * length**2 for length in lengths) <= KEPT
        out = qkv.new_empty(len(qkv), heads, qkv.shape[3])
        ctx.kept = []
        for rows, some in _blocks(lengths, heads):
            q, k, v = qkv[rows, :, some].permute(1, 2, 0, 3)  # each (heads of the block, T, d)
            weights = _weights(q, k)
            positions = draw(weights.numel(), p)
            ctx.kept.append((positions, weights.clone() if keep else None))
            zero_(weights, positions)
            out[rows, some] = _product(weights, v, 1 / (1 - dropped_share(p))).transpose(0, 1)
        ctx.save_for_backward(qkv)
        ctx.lengths, ctx.p = lengths, p
        return out.view(len(qkv), -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (qkv,) = ctx.saved_tensors
        scale, head_scale = 1 / (1 - dropped_share(ctx.p)), 1 / math.sqrt(qkv.shape[3])
        grad_out = gradients[0].view(len(qkv), qkv.shape[2], -1)
        grad = torch.empty_like(qkv)
        for (rows, some), (positions, weights) in zip(_blocks(ctx.lengths, qkv.shape[2]), ctx.kept, strict=True):
            q, k, v = qkv[rows, :, some].permute(1, 2, 0, 3)
            grad_q, grad_k, grad_v = grad[rows, :, some].permute(1, 2, 0, 3)
            up = grad_out[rows, some].transpose(0, 1)
            weights = _weights(q, k) if weights is None else weights.clone()
            grad_weights = _product(up, v.transpose(1, 2), scale)
            zero_(grad_weights, positions)
            grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_q.copy_(_product(grad_scores, k, head_scale))
            grad_k.copy_(_product(grad_scores.transpose(1, 2), q, head_scale))
            zero_(weights, positions)
            grad_v.copy_(_product(weights.transpose(1, 2), up, scale))
        return grad.view(len(qkv), -1), None, None, None


def _blocks(lengths: tuple[int, ...], heads: int) -> list[tuple[slice, slice]]:
    """(tokens, heads) of each block."""
    blocks, begin = [], 0
    for length in lengths:
        together = max(1, BLOCK // length**2)
        rows = slice(begin, begin + length)
        blocks += [(rows, slice(head, min(head + together, heads))) for head in range(0, heads, together)]
        begin += length
    return blocks


def _weights(q_HTd: Tensor, k_HTd: Tensor) -> Tensor:
    """Softmax of the scaled products, (H, T, T); in fp32 inside, whatever the dtype."""
    return torch.softmax(_product(q_HTd, k_HTd.transpose(1, 2), 1 / math.sqrt(q_HTd.shape[2])), -1)


def _product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """scale · left @ right, in one pass over the result."""
    out = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    return torch.baddbmm(out, left, right, beta=0, alpha=scale)
