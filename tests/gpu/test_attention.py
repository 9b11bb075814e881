"""Attention and the model on a GPU: each way there gives what the CPU gives."""

import numpy as np
import pytest
import torch

from pipeline.encoder.attention import attend, padded
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.samples.sequences import Sequences

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICE = torch.device("cuda")
HEADS, WIDTH = 4, 128


@pytest.mark.parametrize("lengths", [(64, 64), (100, 7, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lengths_and_dtypes(lengths: tuple[int, ...], dtype: torch.dtype) -> None:
    sequences = Sequences.of(np.array(lengths))
    qkv = torch.randn(sum(lengths), 3 * WIDTH, generator=torch.Generator().manual_seed(1)).requires_grad_()
    up = torch.randn(sum(lengths), WIDTH, generator=torch.Generator().manual_seed(2))
    expected = attend(qkv, sequences, HEADS, 0.0)
    (expected_gradient,) = torch.autograd.grad(expected, qkv, up)
    on_gpu = qkv.detach().to(DEVICE, dtype).requires_grad_()
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    for way in (attend, padded):
        found = way(on_gpu, sequences.to(DEVICE), HEADS, 0.0)
        (gradient,) = torch.autograd.grad(found, on_gpu, up.to(DEVICE, dtype))
        torch.testing.assert_close(found.float().cpu(), expected, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(gradient.float().cpu(), expected_gradient, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.1])
def test_a_step_of_the_model_asks_the_device_for_nothing(compiled: bool, p: float) -> None:
    config = ModelConfig(
        num_hidden_layers=2,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        intermediate_size=256,
        max_position_embeddings=66,
        hidden_dropout_prob=p,
        attention_probs_dropout_prob=p,
    )
    model = MaskedLM(config, 128, seed=1).to(DEVICE, torch.bfloat16).train()
    if compiled:
        model.compile_layers()
    ids = torch.randint(5, 128, (3, 64), generator=torch.Generator().manual_seed(1))
    tokens = np.ones((3, 64), np.bool_)
    tokens[1, 40:] = False
    sequences = Sequences.in_rows(tokens)
    positions, labels = torch.arange(0, 100, 7), torch.arange(0, 100, 7)
    given = (ids.to(DEVICE), sequences.to(DEVICE), positions.to(DEVICE), labels.to(DEVICE))
    model(*given).backward()  # what is compiled is compiled now
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = model(*given)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    if p == 0:
        exact = MaskedLM(config, 128, seed=1).eval()(ids, sequences, positions, labels)
        assert loss.item() == pytest.approx(exact.item(), rel=2e-2)
