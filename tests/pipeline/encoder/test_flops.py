"""Model FLOPs are those that a real forward and backward pass of the model does in matrix products."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.encoder.flops import model_flops
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig


@pytest.mark.parametrize(("batch", "length", "predicted"), [(2, 8, 3), (3, 16, 11)])
def test_the_formula_counts_what_torch_counts(batch: int, length: int, predicted: int) -> None:
    config = ModelConfig(
        num_hidden_layers=2,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=40,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = MaskedLM(config, vocab_size=50)
    ids = torch.randint(5, 50, (batch, length))
    positions = torch.arange(predicted)
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):  # others recompute in the backward pass
        F.cross_entropy(model(ids, None, positions), ids.flatten()[positions]).backward()
    assert model_flops(config, 50, batch * length, batch * length**2, predicted) == counter.get_total_flops()


def test_bert_large_in_round_numbers() -> None:
    """About 6 FLOPs a parameter of the layers and a token (Kaplan et al. 2020): 302 M of them."""
    config = ModelConfig.model_validate({"name": "bert-large"})
    assert model_flops(config, 30522, 1_000_000, 0, 0) == pytest.approx(6 * 302e6 * 1e6, rel=0.001)
