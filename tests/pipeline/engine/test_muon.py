"""Muon against torch.optim.Muon, and what orthogonalising is."""

import pytest
import torch

from pipeline.engine.muon import Muon, orthogonalised
from pipeline.engine.optim_config import MuonConfig
from tests.pipeline.engine.test_lamb import after, gradients, small_model

CONFIG = MuonConfig(learning_rate=0.02, weight_decay=0.1, newton_schulz_dtype="bf16")


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (48, 12), (1, 5)])
def test_singular_values_become_nearly_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalised(matrix) @ v.T
    assert torch.allclose(found, torch.diag(found.diagonal()), atol=1e-5)  # the same singular vectors
    assert float(found.diagonal().min()) > 0.6  # Jordan's coefficients: 0.68 to 1.13 where a value was not tiny
    assert float(found.diagonal().max()) < 1.21


def test_scale_does_not_matter_and_zero_stays_zero() -> None:
    matrix = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalised(matrix * 1e-4), orthogonalised(matrix), atol=1e-6, rtol=1e-5)
    assert not orthogonalised(torch.zeros(3, 4)).any()


def test_hidden_matrices_are_torchs_muon_and_the_rest_is_adamw() -> None:
    """torch.optim.Muon, in bf16, on query, key and value apart, which are one parameter of ours."""
    model, other = small_model(), small_model()
    steps = gradients(model, 4)
    found = after(Muon(model, CONFIG), model, steps)
    rate, decay = CONFIG.learning_rate, CONFIG.weight_decay
    for name, parameter in other.named_parameters():
        hidden = name.startswith("layers.") and parameter.ndim == 2
        parts = [
            torch.nn.Parameter(part.detach().clone()) for part in parameter.chunk(3 if "qkv" in name and hidden else 1)
        ]
        optimizer: torch.optim.Optimizer
        if hidden:
            optimizer = torch.optim.Muon(parts, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        else:
            decay_here = decay if parameter.ndim == 2 else 0.0
            optimizer = torch.optim.AdamW(parts, rate, (0.9, 0.98), 1e-6, decay_here, fused=True)
        for gradient in steps:
            for part, grad in zip(parts, gradient[name].chunk(len(parts)), strict=True):
                part.grad = grad.clone()
            optimizer.step()
        assert not torch.equal(found[name], parameter)
        torch.testing.assert_close(found[name], torch.cat(parts).detach(), atol=1e-6, rtol=1e-6, msg=name)


def test_fp32_is_near_bf16() -> None:
    model, other = small_model(), small_model()
    steps = gradients(model, 2)
    found = after(Muon(model, CONFIG.model_copy(update={"newton_schulz_dtype": "fp32"})), model, steps)
    for name, weight in after(Muon(other, CONFIG), other, steps).items():
        torch.testing.assert_close(weight, found[name], atol=CONFIG.learning_rate / 50, rtol=0)


def test_a_matrix_has_a_momentum_alone() -> None:
    model = small_model()
    optimizer = Muon(model, CONFIG)
    after(optimizer, model, gradients(model, 1))
    for name, parameter in model.named_parameters():
        hidden = name.startswith("layers.") and parameter.ndim == 2
        expected = {"step", "momentum"} if hidden else {"step", "exp_avg", "exp_avg_sq"}
        assert set(optimizer.state[parameter]) == expected, name
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert set(optimizer.state[parameter]) == {"step", *group["states"]}
