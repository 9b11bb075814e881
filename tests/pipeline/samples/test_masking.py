"""Dynamic masking: the published rates, and masks that depend on (key, global index, position) alone."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.samples.masking import Ids, Masked, Masker

SPECIAL, MASK, VOCABULARY = (0, 1, 2, 3, 4), 4, 1000


def ids_of(rows: int, columns: int, seed: int = 0) -> Ids:
    """Rows with special tokens at the ends and here and there between."""
    random = np.random.default_rng(seed)
    ids = random.integers(5, VOCABULARY, (rows, columns)).astype(np.int32)
    ids[random.random((rows, columns)) < 0.1] = 3
    ids[:, 0], ids[:, -1] = 0, 1
    return ids


def masker(key: int = 11, probability: float = 0.15, mask: float = 0.8, random: float = 0.1) -> Masker:
    return Masker(key, VOCABULARY, SPECIAL, MASK, probability, mask, random)


def rows_of(masked: Masked) -> list[tuple[bytes, list[int], list[int]]]:
    """What each row of a masked batch holds: its ids, the predicted columns and their labels."""
    columns = masked.input_ids.shape[1]
    found = []
    for row, ids in enumerate(masked.input_ids):
        here = masked.positions // columns == row
        found.append((ids.tobytes(), (masked.positions[here] % columns).tolist(), masked.labels[here].tolist()))
    return found


def test_rates() -> None:
    """15 % of the ordinary tokens; of these 80 % masked, 10 % drawn, 10 % kept: each within 5 standard deviations."""
    ids = ids_of(2000, 128)
    masked = masker()(ids.copy(), np.arange(2000))
    ordinary = np.count_nonzero(ids >= 5)
    chosen = len(masked.positions)
    now = masked.input_ids.ravel()[masked.positions]

    def close(count: "int | np.signedinteger", total: "int | np.signedinteger", probability: float) -> bool:
        return abs(int(count) - int(total) * probability) < 5 * math.sqrt(int(total) * probability * (1 - probability))

    assert close(chosen, ordinary, 0.15)
    assert close(np.count_nonzero(now == MASK), chosen, 0.8)
    drawn_itself = 0.1 / (VOCABULARY - 5)  # a drawn token may be the one that stood there
    assert close(np.count_nonzero(now == masked.labels), chosen, 0.1 + drawn_itself)
    assert close(np.count_nonzero((now != MASK) & (now != masked.labels)), chosen, 0.1 - drawn_itself)


def test_choices_are_even_over_columns_and_rows() -> None:
    ids = np.full((4000, 64), 5, np.int32)
    chosen = np.bincount(masker().choose(ids, np.arange(4000))[0] % 64, minlength=64)
    assert np.all(abs(chosen - 600) < 5 * (4000 * 0.15 * 0.85) ** 0.5)
    pairs = np.zeros((4000, 64), bool)
    pairs.ravel()[masker().choose(ids, np.arange(4000))[0]] = True
    both = np.count_nonzero(pairs[:, 1:] & pairs[:, :-1])  # neighbours are chosen independently of each other
    assert abs(both / (4000 * 63) - 0.15**2) < 0.002


def test_drawn_tokens_are_even_over_the_ordinary_ones() -> None:
    ids = np.full((1000, 200), 7, np.int32)
    drawn = masker(probability=1, mask=0, random=1)(ids.copy(), np.arange(1000)).input_ids
    counts = np.bincount(drawn.ravel(), minlength=VOCABULARY)
    assert counts[:5].sum() == 0
    expected = drawn.size / (VOCABULARY - 5)
    assert ((counts[5:] - expected) ** 2 / expected).sum() < 995 + 5 * (2 * 995) ** 0.5


@given(st.integers(0, 2**64 - 1), st.integers(1, 6), st.integers(2, 40), st.integers(0, 2**60))
def test_special_tokens_are_never_chosen_nor_drawn(key: int, rows: int, columns: int, first: int) -> None:
    ids = ids_of(rows, columns, key % 1000)
    masked = masker(key, 1, 0, 1)(ids.copy(), np.arange(first, first + rows))
    assert np.array_equal(masked.positions, np.flatnonzero(ids.ravel() >= 5))
    assert np.all(masked.input_ids.ravel()[masked.positions] >= 5)
    assert np.array_equal(masked.input_ids[ids < 5], ids[ids < 5])


@given(st.integers(0, 2**64 - 1), st.permutations(range(12)), st.integers(1, 12))
def test_a_row_does_not_depend_on_its_batch(key: int, permutation: list[int], size: int) -> None:
    """Any selection of the rows, in any order, has the masks that they have in the whole batch."""
    ids, indices = ids_of(12, 40), np.arange(12) * 977 + 2**40
    whole = rows_of(masker(key)(ids.copy(), indices))
    selection = permutation[:size]
    part = rows_of(masker(key)(ids[selection], indices[selection]))
    assert part == [whole[row] for row in selection]


def test_labels_are_the_originals_and_the_rest_is_untouched() -> None:
    ids = ids_of(50, 128)
    before = ids.copy()
    masked = masker()(ids, np.arange(50))
    assert masked.input_ids is ids
    assert np.array_equal(masked.labels, before.ravel()[masked.positions])
    assert np.all(np.diff(masked.positions) > 0)
    others = np.setdiff1d(np.arange(before.size), masked.positions)
    assert np.array_equal(masked.input_ids.ravel()[others], before.ravel()[others])
    assert [str(array.dtype) for array in masked] == ["int32", "int64", "int32"]


def test_a_view_that_cannot_be_masked_in_place_is_an_error() -> None:
    with pytest.raises(AssertionError):
        masker()(np.asfortranarray(ids_of(30, 40)), np.arange(30))


def test_keys_and_indices_have_masks_of_their_own() -> None:
    ids = np.broadcast_to(ids_of(1, 128), (20, 128)).copy()
    rows = rows_of(masker()(ids.copy(), np.arange(20)))
    assert len({tuple(columns) for _, columns, _ in rows}) == 20
    for other in (masker(12)(ids.copy(), np.arange(20)), masker()(ids.copy(), np.arange(20) + 20)):
        assert all(ours[1] != theirs[1] for ours, theirs in zip(rows, rows_of(other), strict=True))


def test_nothing_is_predicted_at_probability_zero() -> None:
    ids = ids_of(20, 64)
    masked = masker(probability=0)(ids.copy(), np.arange(20))
    assert len(masked.positions) == len(masked.labels) == 0
    assert np.array_equal(masked.input_ids, ids)


@pytest.mark.parametrize(("mask", "random"), [(1, 0), (0, 1), (0, 0)])
def test_everything_is_predicted_at_probability_one(mask: float, random: float) -> None:
    ids = ids_of(200, 64)
    masked = masker(probability=1, mask=mask, random=random)(ids.copy(), np.arange(200))
    assert np.array_equal(masked.positions, np.flatnonzero(ids.ravel() >= 5))
    now = masked.input_ids.ravel()[masked.positions]
    assert np.all(now == MASK) == (mask == 1)
    assert np.array_equal(now, masked.labels) == (mask == random == 0)


def test_golden_masks() -> None:
    """A change of these bytes changes the masks of every run in progress."""
    ids = (np.arange(8 * 128, dtype=np.int32) % VOCABULARY).reshape(8, 128)
    masked = masker()(ids.copy(), np.arange(10**9, 10**9 + 8))
    data = masked.input_ids.astype("<i4").tobytes() + masked.positions.astype("<i8").tobytes()
    assert hashlib.sha256(data).hexdigest() == "6c784e9b2f5611b7983c7473fd01db8a3c8f5a852626ba90d7d7d1455330d900"
