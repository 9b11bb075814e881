"""Law 1 for any corpus, batch, seed and history of world sizes: each epoch reads each sample once, in one order.

What is drawn here are the positions of samples, by the code of a run (`TrainBatches`), without a corpus under it.
"""

import itertools
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.samples.batch import BatchGeometry
from pipeline.samples.data import TrainBatches
from pipeline.samples.order import Indices, Order


def batches_of(samples: int, seed: int, geometry: BatchGeometry) -> TrainBatches:
    batches = object.__new__(TrainBatches)
    batches.geometry, batches.order = geometry, Order(samples, seed, "digest")
    return batches


def read(batches: TrainBatches, step: int, rank: int) -> tuple[Indices, Indices]:
    """Positions in the split and global indices of all that a rank reads in a step."""
    parts = [batches._samples(indices) for indices in batches.groups(step, rank)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


@dataclass(frozen=True)
class Run:
    """A run of many starts, each on so many ranks for so many steps."""

    samples: int
    seed: int
    batch: int
    starts: list[tuple[int, int, int]]  # world size, micro-batch size, steps

    def log(self) -> tuple[Indices, Indices]:
        """What was read, in the order of global indices, which must be whole."""
        positions, numbers, step = [], [], 0
        for world_size, micro, steps in self.starts:
            batches = batches_of(self.samples, self.seed, BatchGeometry(self.batch, micro, world_size))
            for number in range(step, step + steps):
                parts = [read(batches, number, rank) for rank in range(world_size)]
                assert len({len(part[0]) for part in parts}) == 1, "a rank has more to do than another"
                positions += [part[0] for part in parts]
                numbers += [part[1] for part in parts]
            step += steps
        order = np.argsort(np.concatenate(numbers), kind="stable")
        return np.concatenate(positions)[order], np.concatenate(numbers)[order]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    samples, seed = draw(st.integers(1, 400)), draw(st.integers(0, 2**63 - 1))
    batch = draw(st.integers(1, 96))
    ways = [(world, micro) for world in range(1, 9) for micro in range(1, 33) if batch % (world * micro) == 0]
    needed = -(-draw(st.integers(samples, 2 * samples)) // batch)
    edges = [0, *sorted(draw(st.lists(st.integers(0, needed), max_size=3))), needed]
    starts = [(*draw(st.sampled_from(ways)), end - begin) for begin, end in itertools.pairwise(edges)]
    return Run(samples, seed, batch, starts)


@pytest.fixture(scope="module")
def small_blocks() -> Iterator[None]:
    """An order of a few samples makes a key for each epoch of a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.samples.order.BLOCK", 64)
        yield


def test_a_billion_samples_in_under_50_megabytes() -> None:
    """Steps at random places of the first epoch of 10⁹ samples, on any of 64 ranks: no position twice."""
    samples, batch = 10**9, 8192
    random_ = random.Random(9)
    tracemalloc.start()
    try:
        batches = batches_of(samples, 7, BatchGeometry(batch, 8, 64))
        places = {(random_.randrange(samples // batch), random_.randrange(64)) for _ in range(64)}
        drawn = np.concatenate([read(batches, *place)[0] for place in sorted(places)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000
    assert len(np.unique(drawn)) == len(drawn) == len(places) * batch // 64
    assert drawn.min() >= 0
    assert drawn.max() < samples
    assert np.abs(np.mean(drawn) / samples - 0.5) < 0.02  # of 8192 places: four standard deviations are 0.013


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_an_epoch_of_a_few_samples(samples: int) -> None:
    """A batch of many epochs: each of them has every sample once."""
    positions, _ = Run(samples, 5, 96, [(4, 3, 2)]).log()
    whole = positions[: len(positions) // samples * samples].reshape(-1, samples)
    assert np.array_equal(np.sort(whole), np.tile(np.arange(samples), (len(whole), 1)))


@given(run=runs())
@settings(max_examples=500)
@pytest.mark.usefixtures("small_blocks")
def test_each_epoch_reads_each_sample_once_whatever_ranks_come_and_go(run: Run) -> None:
    positions, numbers = run.log()
    assert np.array_equal(numbers, np.arange(len(numbers))), "a sample of the stream is missing or read twice"
    for begin in range(0, len(positions) // run.samples * run.samples, run.samples):
        epoch = positions[begin : begin + run.samples]
        assert np.array_equal(np.sort(epoch), np.arange(run.samples))
    rest = positions[len(positions) // run.samples * run.samples :]
    assert len(np.unique(rest)) == len(rest)
    assert positions.tobytes() == Order(run.samples, run.seed, "digest")[numbers].tobytes()
