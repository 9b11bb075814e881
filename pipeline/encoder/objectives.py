"""The loss: a sum over predicted tokens, never a mean, so that only the whole step is divided, once (law 2).

The head's last product is the largest tensor of a step: N predicted tokens × V logits, 0.5 GB in fp32 for a micro-batch
of 32 × 512 and a vocabulary of 50,265, and as much again for its gradient. Here the tokens are taken in chunks whose
logits fill at most `CHUNK_BYTES`. A chunk's gradients are computed while its logits are there: three products as in
the plain computation, where computing the logits again in the backward pass would take four.

Shapes: N predicted tokens, D hidden, V vocabulary.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# fp32 logits of a chunk. On GPUs larger: adding up the (V, D) gradient of so quick a product takes as long as it does.
CHUNK_BYTES = {"cpu": 2**26, "cuda": 2**28}
# In fp16 the gradients of logits, which are probabilities, are held so many times as large: those down to 6e-11 are not
# lost, and one is far from the largest number. The loss scale, which comes with the backward pass, is for what follows.
FP16_FACTOR = 2.0**10
ALIGNMENT = 64  # columns: rows of logits begin at multiples of it, which the matrix units of GPUs want


class Projection(NamedTuple):
    """What makes logits of hidden states: the tied word embeddings (V, D) and the bias (V,)."""

    word_embeddings_VD: Tensor
    bias_V: Tensor

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """(N, V), in the dtype of the hidden states, each row beginning at a multiple of `ALIGNMENT` elements."""
        vocabulary = len(self.bias_V)
        aligned = -(-vocabulary // ALIGNMENT) * ALIGNMENT
        logits_NV = hidden_ND.new_empty(len(hidden_ND), aligned)[:, :vocabulary]
        return torch.addmm(self.bias_V, hidden_ND, self.word_embeddings_VD.T, out=logits_NV)


def _exact(tensor: Tensor) -> torch.dtype:
    """fp32, or the tensor's own dtype where that is wider."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _chunks(tokens: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    """Slices of the tokens, of equal size but the last, at least one."""
    most = max(1, CHUNK_BYTES.get(device.type, CHUNK_BYTES["cpu"]) // (4 * vocabulary))
    count = max(1, -(-tokens // most))
    size = max(1, -(-tokens // count))
    return (slice(begin, begin + size) for begin in range(0, max(tokens, 1), size))


def token_losses(hidden_ND: Tensor, projection: Projection, labels_N: Tensor) -> Tensor:
    """Cross-entropy of each token (nats), (N,) in fp32, without gradients."""
    losses = []
    with torch.no_grad():
        for rows in _chunks(len(labels_N), len(projection.bias_V), hidden_ND.device):
            logits_NV = projection.logits(hidden_ND[rows])
            log_probability_NV = logits_NV.log_softmax(1, _exact(hidden_ND))
            losses.append(-log_probability_NV.gather(1, labels_N[rows, None]).squeeze(1))
    return torch.cat(losses)


def masked_lm_loss(hidden_ND: Tensor, projection: Projection, labels_N: Tensor) -> Tensor:
    """Cross-entropy (nats) summed over the tokens, a scalar in fp32; the logits of all of them never exist at once.

    Args:
        hidden_ND: what the head's norm gives, fp32, bf16, fp16 or fp64. labels_N: int64 ids, none of them ignored.
    """
    if not torch.is_grad_enabled():
        return _sum(token_losses(hidden_ND, projection, labels_N))
    loss: Tensor = _SummedCrossEntropy.apply(hidden_ND, *projection, labels_N)  # type: ignore[no-untyped-call]
    return loss


def _sum(losses_N: Tensor) -> Tensor:
    return losses_N.sum(dtype=torch.float64).to(losses_N.dtype)


class _SummedCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over the chunks; the backward pass multiplies them by the gradient of the sum."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, word_VD: Tensor, bias_V: Tensor, labels_N: Tensor) -> Tensor:
        projection, exact = Projection(word_VD, bias_V), _exact(hidden_ND)
        factor = FP16_FACTOR if hidden_ND.dtype == torch.float16 else 1.0
        chunks = list(_chunks(len(labels_N), len(bias_V), hidden_ND.device))
        losses_N = torch.empty(len(labels_N), dtype=exact, device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND)
        # One chunk's product is rounded once, as in the plain computation; sums of several are kept exact.
        rounded = len(chunks) == 1 and factor == 1
        grad_word_VD = torch.empty_like(word_VD, dtype=word_VD.dtype if rounded else exact)
        grad_bias_V = torch.zeros_like(bias_V, dtype=exact)
        for number, rows in enumerate(chunks):
            hidden, labels = hidden_ND[rows], labels_N[rows, None]
            logits = projection.logits(hidden)
            log_probability = logits.log_softmax(1, exact)
            of_labels = log_probability.gather(1, labels)
            losses_N[rows] = -of_labels.squeeze(1)
            if factor != 1:
                log_probability += math.log(factor)
            grad_logits = torch.exp(log_probability, out=logits)  # in the logits' place: its rows are aligned
            del log_probability
            errors = torch.expm1(of_labels) * factor  # p − 1, exact where p is near 1
            grad_logits.scatter_(1, labels, errors.to(logits.dtype))
            torch.mm(grad_logits, word_VD, out=grad_hidden_ND[rows])
            grad_bias_V += grad_logits.sum(0, dtype=exact)
            _add_product(grad_word_VD, grad_logits.T, hidden, first=number == 0)
        ctx.save_for_backward(grad_hidden_ND, grad_word_VD, grad_bias_V)
        ctx.dtypes, ctx.factor = (hidden_ND.dtype, word_VD.dtype, bias_V.dtype), factor
        return _sum(losses_N)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sum: Tensor) -> tuple[Tensor | None, ...]:
        by = grad_sum / ctx.factor  # in fp32: the loss scale may be over fp16's largest number
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *((tensor.to(by.dtype) * by).to(dtype) for tensor, dtype in pairs), None


def _add_product(total: Tensor, left: Tensor, right: Tensor, first: bool) -> None:
    """total += left @ right, or total = left @ right for the first."""
    if total.dtype == left.dtype:
        total.addmm_(left, right, beta=0 if first else 1)
    elif first:
        total.copy_(_product(left, right))
    else:
        total += _product(left, right)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right; of fp16 in fp32, since sums over many tokens may be over fp16's largest number."""
    if left.dtype != torch.float16:
        return left @ right
    if left.device.type == "cuda":
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()
