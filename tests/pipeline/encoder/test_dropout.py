"""Own dropout: what is dropped is a share of independent elements, the rest is scaled so that the expectation stays."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.encoder.dropout import draw, dropout, dropped_share, zero_

ELEMENTS = 2**20


@pytest.mark.parametrize("p", [1e-3, 0.1, 0.3, 0.5])
def test_the_share_is_that_asked_for_and_the_expectation_stays(p: float) -> None:
    torch.manual_seed(0)
    assert dropped_share(p) == pytest.approx(p, abs=2**-15)
    out = dropout(torch.ones(ELEMENTS), p)
    deviation = (p * (1 - p) / ELEMENTS) ** 0.5
    assert float((out == 0).double().mean()) == pytest.approx(p, abs=5 * deviation)
    assert out.max().item() == pytest.approx(1 / (1 - dropped_share(p)))
    assert float(out.double().mean()) == pytest.approx(1, abs=5 * deviation / (1 - p))


def test_elements_are_dropped_independently_and_evenly() -> None:
    torch.manual_seed(1)
    gone = torch.zeros(ELEMENTS, dtype=torch.float64)
    gone[draw(ELEMENTS, 0.1)] = 1
    deviation = (0.1 * 0.9 / ELEMENTS) ** 0.5
    for distance in (1, 2, 7, 64, 1000):  # no neighbour knows of another
        both = float((gone[:-distance] * gone[distance:]).mean())
        assert both == pytest.approx(0.01, abs=5 * (0.01 * 0.99 / ELEMENTS) ** 0.5), distance
    for part in gone.view(8, -1).mean(1):
        assert float(part) == pytest.approx(0.1, abs=5 * deviation * 8**0.5)
    first = sum(int(draw(3, 0.1).eq(0).any()) for _ in range(4000)) / 4000  # beginnings are as any other place
    assert first == pytest.approx(0.1, abs=5 * (0.09 / 4000) ** 0.5)


@given(st.integers(0, 400), st.floats(1e-4, 0.5))
def test_positions_are_ascending_and_inside(elements: int, p: float) -> None:
    positions = draw(elements, p)
    assert (positions.diff() > 0).all()
    assert ((positions >= 0) & (positions < elements)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_gradient_has_the_same_mask_and_the_seed_decides_it(dtype: torch.dtype) -> None:
    hidden = torch.randn(7, 300, dtype=dtype).t().requires_grad_()  # not contiguous
    torch.manual_seed(3)
    out = dropout(hidden, 0.25)
    out.backward(torch.ones_like(out))
    assert hidden.grad is not None
    kept = out != 0
    torch.testing.assert_close(hidden.grad, kept / torch.tensor(1 - dropped_share(0.25)), check_dtype=False)
    torch.manual_seed(3)
    again = torch.zeros(hidden.shape) + 1
    zero_(again, draw(again.numel(), 0.25))
    assert torch.equal(again.bool(), kept)
    assert not torch.equal(dropout(hidden, 0.25) != 0, kept)


def test_the_edges() -> None:
    ones = torch.ones(1000)
    assert dropout(ones, 0.0) is ones
    assert not dropout(ones, 1.0).any()
    assert 0.6 < float((dropout(ones, 0.7) == 0).float().mean()) < 0.8
