"""Spikes: found where they are, and nowhere else."""

import math

import numpy as np
import pytest

from pipeline.watching.spikes import Window


def found(values: list[float], size: int = 100, sigmas: float = 6.0) -> list[int]:
    window = Window("loss", size, sigmas)
    return [index for index, value in enumerate(values) if window.add(value)]


def noisy(steps: int, seed: int = 0) -> list[float]:
    """A loss as it falls in training, with normal noise of 0.02."""
    noise = np.random.default_rng(seed).normal(0, 0.02, steps)
    return [float(3 + 7 * math.exp(-step / 300) + noise[step]) for step in range(steps)]


@pytest.mark.parametrize("seed", range(5))
def test_an_ordinary_run_has_none(seed: int) -> None:
    assert found(noisy(3000, seed)) == []


def test_a_step_of_more_than_six_sigmas_is_one() -> None:
    values = noisy(2000)[1000:]
    values[500] += 1.0
    values[700] -= 1.0  # a better loss is none
    assert found(values) == [500]


def test_a_second_one_is_not_hidden_by_the_first() -> None:
    values = noisy(2000)[1000:]
    for index in (500, 501, 530):
        values[index] += 100.0
    window = Window("loss", 100, 6.0)
    spikes = {index: spike for index, value in enumerate(values) if (spike := window.add(value))}
    assert list(spikes) == [500, 501, 530]
    assert [spike.first for spike in spikes.values()] == [True, False, True]
    assert spikes[500].value == values[500]
    assert spikes[500].median == pytest.approx(3.2, abs=0.2)
    assert spikes[500].sigmas > 100


def test_a_new_level_is_learned_after_half_a_window() -> None:
    values = [1.0] * 100 + [5.0] * 200
    assert found(values, size=100) == list(range(100, 150))


def test_nothing_is_judged_before_half_a_window_is_there() -> None:
    assert found([1.0, 1.0, 1.0, 1.0, 50.0], size=10) == []
    assert found([1.0, 1.0, 1.0, 1.0, 1.0, 50.0], size=10) == [5]


def test_a_quiet_window_makes_no_spike_of_rounding() -> None:
    assert found([2.0] * 100 + [2.0000001, 2.005, 2.02]) == [102]
    assert found([0.0] * 100 + [0.0]) == []


def test_what_is_not_finite_is_not_kept() -> None:
    window = Window("loss", 4, 6.0)
    for value in (1.0, math.nan, math.inf, 1.0):
        assert window.add(value) is None
    assert list(window.values) == [1.0, 1.0]
