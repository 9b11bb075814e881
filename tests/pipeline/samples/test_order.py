"""The order: a permutation in every epoch, the same however it is sliced, at no cost in memory."""

import hashlib
import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.samples.order import Indices, Order

SEEDS = st.integers(0, 2**63 - 1)


def epoch_of(order: Order, epoch: int) -> Indices:
    return order[np.arange(epoch * order.samples, (epoch + 1) * order.samples, dtype=np.int64)]


@given(st.integers(1, 5000), SEEDS, st.text(max_size=8), st.integers(0, 10**6))
def test_every_epoch_holds_each_sample_exactly_once(samples: int, seed: int, digest: str, epoch: int) -> None:
    drawn = epoch_of(Order(samples, seed, digest), epoch)
    assert np.array_equal(np.sort(drawn), np.arange(samples))


@pytest.mark.parametrize("samples", range(1, 70))
def test_smallest_domains(samples: int) -> None:
    """Odd and even numbers of bits, exact powers of two and their neighbours."""
    drawn = epoch_of(Order(samples, 0, ""), 0)
    assert sorted(drawn.tolist()) == list(range(samples))


@given(st.integers(100, 500), SEEDS, st.lists(st.integers(0, 900), max_size=8))
def test_slices_are_the_whole(samples: int, seed: int, cuts: list[int]) -> None:
    """Any cutting of a stretch over several epochs, and any single index, gives what the whole gives."""
    order = Order(samples, seed, "digest")
    whole = order[np.arange(900, dtype=np.int64)]
    edges = [0, *sorted(cuts), 900]
    pieces = [order[np.arange(a, b, dtype=np.int64)] for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(pieces), whole)
    backwards = order[np.arange(899, -1, -1, dtype=np.int64)]
    assert np.array_equal(backwards[::-1], whole)


@given(st.integers(100, 10**9), SEEDS, st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 5000)), max_size=5))
def test_runs_are_the_whole(samples: int, seed: int, runs: list[tuple[int, int]]) -> None:
    """Reading on, jumping back and forth and crossing blocks and epochs: always what indexing gives."""
    order, fresh = Order(samples, seed, "digest"), Order(samples, seed, "digest")
    for first, count in runs:
        assert np.array_equal(order.run(first, first + count), fresh[np.arange(first, first + count, dtype=np.int64)])


@given(st.integers(50, 5000), SEEDS)
def test_epochs_seeds_and_corpora_differ(samples: int, seed: int) -> None:
    order = Order(samples, seed, "digest")
    first = epoch_of(order, 0)
    others = [
        epoch_of(order, 1),
        epoch_of(Order(samples, seed + 1, "digest"), 0),
        epoch_of(Order(samples, seed, "d"), 0),
    ]
    for other in others:
        # two independent permutations agree on one place on average; 20 has a probability below 1e-18
        assert np.count_nonzero(first == other) < 20


@pytest.mark.parametrize(
    ("samples", "first", "digest"),
    [
        (12_345, 24_000, "f312c1b21edbd9671444daa70e4d32cc064a6eb9c1b960d5be336511b6d6a081"),  # 14 bits
        (
            20_000,
            39_500,
            "ff821875edfa934895b698c3ec274764621e8288df8c99b0f32bba4d9a520626",
        ),  # 15: halves of unequal size
    ],
)
def test_golden_order(samples: int, first: int, digest: str) -> None:
    """A change of these bytes changes every run in progress: their resumption would see other samples."""
    drawn = Order(samples, 7, "golden")[np.arange(first, first + 1000, dtype=np.int64)]
    assert hashlib.sha256(drawn.astype("<i8").tobytes()).hexdigest() == digest


def test_the_last_of_a_billion_samples_costs_no_memory() -> None:
    last = np.array([10**9 - 1, 3 * 10**9, 4 * 10**9 - 1], np.int64)
    tracemalloc.start()
    try:
        drawn = Order(10**9, 1, "digest")[last]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000
    assert np.all((drawn >= 0) & (drawn < 10**9))
    assert len(set(drawn.tolist())) == 3


def test_positions_and_samples_are_independent() -> None:
    """χ² of (position, sample) cells over 64 epochs; 225 degrees of freedom: mean 225, standard deviation 21."""
    order, cells = Order(4096, 3, "digest"), np.zeros((16, 16))
    for epoch in range(64):
        np.add.at(cells, (np.arange(4096) // 256, epoch_of(order, epoch) // 256), 1)
    expected = cells.sum() / cells.size
    assert ((cells - expected) ** 2 / expected).sum() < 225 + 5 * 21


def test_neighbours_are_not_kept_together() -> None:
    """Documents stand one after the other in a shard: neighbours in a batch must not be neighbours in the corpus."""
    order = Order(4000, 3, "digest")
    followed = sum(np.count_nonzero(np.diff(epoch_of(order, epoch)) == 1) for epoch in range(50))
    fixed = sum(np.count_nonzero(epoch_of(order, epoch) == np.arange(4000)) for epoch in range(50))
    assert 15 < followed < 85  # 50 expected of each: one an epoch
    assert 15 < fixed < 85


def test_all_permutations_of_a_small_set_occur() -> None:
    order = Order(4, 0, "digest")
    assert len({tuple(epoch_of(order, epoch).tolist()) for epoch in range(500)}) == 24
