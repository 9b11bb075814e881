"""Keyed randomness: the published mixing function, and keys that keep their parts apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.keyed import GOLDEN, derive, mix

PARTS = st.lists(st.one_of(st.integers(), st.text(max_size=8)), max_size=4)


def test_mix_is_splitmix64() -> None:
    """The first outputs of SplitMix64 from state 0, as its reference implementation prints them."""
    states = np.arange(1, 4, dtype=np.uint64) * GOLDEN
    assert mix(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_mix_works_in_place() -> None:
    values = np.array([1, 2, 3], np.uint64)
    assert mix(values) is values
    assert values.tolist() != [1, 2, 3]


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=50))
def test_mix_is_a_bijection_element_by_element(numbers: list[int]) -> None:
    mixed = mix(np.array(numbers, np.uint64)).tolist()
    assert len(set(mixed)) == len(numbers)
    assert mixed == [mix(np.array([number], np.uint64)).item() for number in numbers]


def test_each_input_bit_changes_half_of_the_output_bits() -> None:
    base = np.arange(1, 513, dtype=np.uint64) * GOLDEN
    for bit in range(64):
        changed = mix(base.copy()) ^ mix(base ^ np.uint64(1 << bit))
        mean = np.bitwise_count(changed).mean()
        assert 30 < mean < 34, (bit, mean)


@given(PARTS, PARTS)
def test_different_parts_have_different_keys(parts: list[str | int], others: list[str | int]) -> None:
    assert 0 <= derive(*parts) < 2**64
    assert (derive(*parts) == derive(*others)) == (parts == others)


def test_keys_keep_their_parts_apart() -> None:
    assert len({derive("a", "b"), derive("ab"), derive("a", "b", ""), derive("b", "a"), derive(1), derive("1")}) == 6


def test_keys_never_change() -> None:
    """A golden value: checkpoints made today go on tomorrow only if the same parts make the same key."""
    assert derive("order", 1, "digest", 2) == 7684101908200122946
