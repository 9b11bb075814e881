"""A tensor's digest sees every bit, wherever the tensor lies; whose copy is wrong is said where a majority tells."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.watching.replicas import INTEGERS, digest, whose

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@given(st.sampled_from(DTYPES), st.integers(1, 40), st.integers(0, 5), st.data())
def test_one_bit_of_one_element_changes_the_digest(
    dtype: torch.dtype, length: int, offset: int, data: st.DataObject
) -> None:
    tensor = torch.randn(offset + length).to(dtype)[offset:]
    before = int(digest(tensor))
    assert int(digest(tensor.clone())) == before  # elsewhere in memory
    assert int(digest(tensor.reshape(1, length))) == before
    bits = 8 * tensor.element_size()
    position, bit = data.draw(st.integers(0, length - 1)), data.draw(st.integers(0, bits - 1))
    raw = tensor.view(INTEGERS[tensor.element_size()])
    mask = 1 << bit if bit < bits - 1 else -(1 << bit)
    raw[position] ^= mask
    assert int(digest(tensor)) != before
    raw[position] ^= mask
    assert int(digest(tensor)) == before


@pytest.mark.parametrize(
    ("digests", "said"),
    [
        ([7, 7, 8, 7], "rank 2 differs from all others"),
        ([8, 7, 7, 9, 7], "ranks 0, 3 differ"),
        ([7, 8], "the 2 ranks differ, and no majority says which is right"),
        ([7, 7, 8, 8], "the 4 ranks differ, and no majority says which is right"),
    ],
)
def test_who_differs_is_said_where_most_agree(digests: list[int], said: str) -> None:
    assert whose(digests) == said
