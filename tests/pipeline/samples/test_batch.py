"""The arithmetic of a batch: ranks slice it, and nothing is left out or done twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.samples.batch import BatchGeometry

SMALL = st.integers(1, 6)


@given(SMALL, SMALL, SMALL, st.integers(0, 10**6))
def test_ranks_share_a_step_without_gap_or_overlap(micro: int, accumulated: int, world: int, step: int) -> None:
    geometry = BatchGeometry(micro * accumulated * world, micro, world)
    assert geometry.gradient_accumulation_steps == accumulated
    shares = [list(geometry.micro_indices(step + i, rank)) for i in range(3) for rank in range(world)]
    assert all(len(share) == accumulated and share == sorted(share) for share in shares)
    first = step * geometry.micro_batches
    assert sorted(index for share in shares for index in share) == list(
        range(first, first + 3 * geometry.micro_batches)
    )


@given(SMALL, SMALL, SMALL, st.integers(0, 10**6))
def test_samples_of_a_step_do_not_depend_on_the_division(micro: int, accumulated: int, world: int, step: int) -> None:
    """At any micro-batch size and world size, step s holds the samples s·B … s·B + B − 1, each once."""
    geometry = BatchGeometry(micro * accumulated * world, micro, world)
    indices = [index for rank in range(world) for index in geometry.micro_indices(step, rank)]
    samples = np.concatenate([geometry.sample_indices(index) for index in indices])
    size = geometry.train_batch_size
    assert samples.dtype == np.int64
    assert sorted(samples.tolist()) == list(range(step * size, (step + 1) * size))


@given(SMALL, SMALL)
def test_a_micro_batch_is_the_same_on_any_number_of_ranks(micro: int, count: int) -> None:
    """Dropout is keyed by the micro-batch's global index: that index must mean the same samples everywhere."""
    size = micro * count
    for world in (w for w in range(1, count + 1) if count % w == 0):
        geometry = BatchGeometry(size, micro, world)
        dealt = {
            index: geometry.sample_indices(index).tolist()
            for r in range(world)
            for index in geometry.micro_indices(3, r)
        }
        alone = BatchGeometry(size, micro, 1)
        assert dealt == {index: alone.sample_indices(index).tolist() for index in alone.micro_indices(3, 0)}


@given(st.integers(1, 10_000), st.integers(1, 64), st.integers(1, 64))
def test_refused_exactly_when_it_does_not_divide(size: int, micro: int, world: int) -> None:
    if size % (micro * world) == 0:
        assert str(BatchGeometry(size, micro, world)).startswith(f"{size} sequences")
        return
    with pytest.raises(InputError) as caught:
        BatchGeometry(size, micro, world)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("batch.train_batch_size: ")
    assert str(size) in message
    offered = [int(word) for word in message.rsplit("nearest: ", 1)[1].split(" or ")]
    assert offered
    for near in offered:
        assert BatchGeometry(near, micro, world)
        assert 0 < abs(near - size) < micro * world


def test_the_message() -> None:
    with pytest.raises(InputError, match=r"100 is not a multiple of .* 16 × world size 3 = 48; nearest: 96 or 144$"):
        BatchGeometry(100, 16, 3)
