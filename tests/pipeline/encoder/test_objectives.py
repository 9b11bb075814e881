"""Chunked cross-entropy: the plain computation's loss and gradients, without its logits."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.encoder import objectives
from pipeline.encoder.objectives import ALIGNMENT, Projection, masked_lm_loss, token_losses

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def inputs(tokens: int, hidden: int, vocabulary: int, dtype: torch.dtype = torch.float64) -> Inputs:
    """Hidden states, word embeddings, bias (leaves) and labels."""
    generator = torch.Generator().manual_seed(tokens)
    shapes = ((tokens, hidden), (vocabulary, hidden), (vocabulary,))
    made = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    states, word, bias = (tensor.requires_grad_() for tensor in made)
    return states, word, bias, torch.randint(0, vocabulary, (tokens,), generator=generator)


def plain(states: Tensor, word: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(states, word, bias), labels, reduction="sum")


def chunked(states: Tensor, word: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    return masked_lm_loss(states, Projection(word, bias), labels)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """8,000 bytes of logits: 20 tokens of a vocabulary of 100."""
    monkeypatch.setattr(objectives, "CHUNK_BYTES", {"cpu": 8000})


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 0.02), (torch.float16, 0.003)],
)
@pytest.mark.parametrize("tokens", [1, 20, 61])
def test_loss_and_gradients_are_the_plain_ones(tokens: int, dtype: torch.dtype, tolerance: float) -> None:
    given_ = inputs(tokens, 16, 100, dtype)
    exact = [tensor.detach().double().requires_grad_() for tensor in given_[:3]]
    loss, expected = chunked(*given_), plain(*exact, given_[3])
    torch.testing.assert_close(loss.double(), expected, atol=0, rtol=tolerance)
    (loss * 0.3).backward()
    (expected * 0.3).backward()
    for mine, theirs in zip(given_, exact, strict=False):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert mine.grad.dtype == dtype
        largest = float(theirs.grad.abs().max())
        torch.testing.assert_close(mine.grad.double(), theirs.grad, atol=tolerance * largest, rtol=0)


@given(tokens=st.integers(0, 70), vocabulary=st.integers(1, 130), chunk=st.integers(1, 40_000))
def test_however_it_is_cut(tokens: int, vocabulary: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives, "CHUNK_BYTES", {"cpu": chunk})
        states, word, bias, labels = inputs(tokens, 3, vocabulary)
        loss = chunked(states, word, bias, labels)
        gradients = torch.autograd.grad(loss, (states, word, bias))
        each = token_losses(states, Projection(word, bias), labels)
        slices = list(objectives._chunks(tokens, vocabulary, states.device))
    expected = plain(states, word, bias, labels)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(each.sum(), expected)
    assert len(each) == tokens
    for mine, theirs in zip(gradients, torch.autograd.grad(expected, (states, word, bias)), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert torch.cat([torch.arange(tokens)[rows] for rows in slices]).tolist() == list(range(tokens))
    assert max(rows.stop - rows.start for rows in slices) <= max(1, chunk // (4 * vocabulary))


def test_gradients_are_those_of_finite_differences() -> None:
    *leaves, labels = inputs(5, 3, 11)
    assert torch.autograd.gradcheck(lambda *tensors: chunked(*tensors, labels), leaves)


def test_the_gradient_of_a_token_that_is_nearly_certain() -> None:
    """bf16 has nothing between 0.9961 and 1 for p = 0.9975."""
    word = torch.tensor([[6.0], [0.0]], dtype=torch.bfloat16, requires_grad=True)
    states, bias = torch.ones(1, 1, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16)
    chunked(states, word, bias, torch.tensor([0])).backward()
    assert word.grad is not None
    assert float(word.grad[0]) == pytest.approx(-0.002473, rel=0.01)


def test_fp16_keeps_what_is_small_and_what_is_large() -> None:
    """A word of probability 2e-8, which fp16 has not, and a sum over tokens that is over its largest number."""
    tokens, scale = 10_000, 0.125
    word = torch.tensor([[0.25], [0.0], [0.0]], dtype=torch.float16, requires_grad=True)
    bias = torch.tensor([0.0, 0.0, math.log(1e-6)], dtype=torch.float16, requires_grad=True)
    states = torch.full((tokens, 1), 16.0, dtype=torch.float16, requires_grad=True)
    exact = [tensor.detach().double().requires_grad_() for tensor in (states, word, bias)]
    labels = torch.ones(tokens, dtype=torch.int64)
    (chunked(states, word, bias, labels) * scale).backward()
    (plain(*exact, labels) * scale).backward()
    for mine, theirs in zip((states, word, bias), exact, strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad.double(), theirs.grad, atol=2**-25, rtol=0.003)
    loss = chunked(states, word, bias, labels)
    (grad_word,) = torch.autograd.grad(loss * 2.0**17, word)  # a loss scale over it
    assert grad_word[0].isinf()


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation gave."""

    bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return results


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_of_all_tokens_never_exist_at_once(dtype: torch.dtype) -> None:
    given_ = inputs(1000, 8, 100, dtype)
    saved: list[int] = []

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor.untyped_storage().nbytes())
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        chunked(*given_).backward()
    gradients, logits = 1000 * 8 * 4, 1000 * 100 * 4
    assert 8000 <= largest.bytes <= gradients < logits
    assert sum(saved) <= gradients + 4 * (8 + 1) * 100
    with Largest() as largest:
        token_losses(given_[0], Projection(*given_[1:3]), given_[3])
    assert largest.bytes <= gradients
    with Largest() as largest:
        plain(*given_).backward()
    assert largest.bytes >= logits // 2


def test_rows_of_logits_are_aligned_for_matrix_units() -> None:
    states, word, bias, _ = inputs(3, 8, 50_265)
    with torch.no_grad():
        logits = Projection(word, bias).logits(states)
    assert logits.shape == (3, 50_265)
    assert logits.stride() == (50_304, 1)
    assert logits.stride(0) % ALIGNMENT == 0
    torch.testing.assert_close(logits, F.linear(states, word, bias).detach())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 0.02), (torch.float16, 0.003)]
)
def test_a_gpu_gives_the_same(dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "CHUNK_BYTES", {"cuda": 8000})
    torch.backends.cuda.matmul.allow_tf32 = False
    states, word, bias, labels = inputs(61, 64, 1001, dtype)
    moved = [tensor.detach().cuda().requires_grad_() for tensor in (states, word, bias)]
    exact = [tensor.detach().double().requires_grad_() for tensor in (states, word, bias)]
    loss, expected = chunked(*moved, labels.cuda()), plain(*exact, labels)
    torch.testing.assert_close(loss.double().cpu(), expected, atol=0, rtol=tolerance)
    for mine, theirs in zip(torch.autograd.grad(loss, moved), torch.autograd.grad(expected, exact), strict=True):
        torch.testing.assert_close(mine.double().cpu(), theirs, atol=tolerance * float(theirs.abs().max()), rtol=0)
