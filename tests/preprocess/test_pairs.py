"""Segment pairs: of whole sentences, as long as they may be, half of them from two documents, the same every time."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from preprocess.pairs import pack_pairs
from tests.preprocess.test_pack import Sizes, layout

documents_of_sentences = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=2, max_size=8)


def made(sizes: Sizes, sequence_length: int, seed: int = 0) -> list[tuple[int, int, int, int]]:
    return [tuple(pair) for pair in pack_pairs(*layout(sizes), sequence_length, seed, "train-00000-of-00001").tolist()]


@given(sizes=documents_of_sentences, sequence_length=st.integers(8, 40), seed=st.integers(0, 9))
def test_pairs_fit_follow_or_are_of_two_documents(sizes: Sizes, sequence_length: int, seed: int) -> None:
    pairs, documents = made(sizes, sequence_length, seed), layout(sizes)[1]
    spans = list(itertools.pairwise(documents.tolist()))

    def of(begin: int, end: int) -> int:
        """The document that holds a range, its separator not in it."""
        return next(number for number, (first, last) in enumerate(spans) if first <= begin < end < last)

    position = [first for first, _ in spans]  # in each document, where the next A comes after
    for begin, end, b_begin, b_end in pairs:
        assert end - begin + b_end - b_begin <= sequence_length - 3
        a, b = of(begin, end), of(b_begin, b_end)
        assert begin >= position[a], "A goes on where the pair before ended"
        position[a] = end if a != b else b_end
        assert a != b or b_begin >= end
    assert {of(*pair[:2]) for pair in pairs} == set(range(len(sizes))), "every document has an A"
    assert pairs == made(sizes, sequence_length, seed)


def test_the_published_shares() -> None:
    """Sentences of one token: nothing is truncated, so a pair is as long as was drawn."""
    pairs = np.array(made([[1] * 500] * 200, 32), np.int64)
    lengths = (pairs[:, 1::2] - pairs[:, ::2]).sum(1)
    inside = pairs[:, 1] % 501 < 450  # far from its document's end
    assert (lengths[inside] < 29).mean() == pytest.approx(0.1, abs=0.02)
    assert (pairs[inside, 0] // 501 != pairs[inside, 2] // 501).mean() == pytest.approx(0.5, abs=0.02)
    assert set(lengths[inside]) == set(range(2, 30))
    of = np.unique(pairs[inside, 2] // 501)
    assert len(of) == 200, "a random B is of any document"
    replaced = pairs[:-1][pairs[:-1, 0] // 501 != pairs[:-1, 2] // 501]
    following = {int(begin) for begin in pairs[:, 0]}
    assert all(end % 501 == 500 or end in following for end in replaced[:, 1].tolist()), "what B replaces is put back"


def test_what_is_too_much_is_cut_from_the_longer_at_front_and_back() -> None:
    pairs = np.array(made([[20, 20]] * 400, 35), np.int64)
    assert ((pairs[:, 1::2] - pairs[:, ::2]) == 16).all()
    front = pairs[:, ::2] % 41 % 20  # tokens cut before a segment of twenty: of four, by a coin each
    assert np.bincount(front.ravel(), minlength=5)[:5] / front.size == pytest.approx(
        [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16], abs=0.05
    )
    assert made([[2, 20]] * 9, 35)[0][1] == 2, "the shorter one stays whole"


def test_a_long_sentence_is_cut_and_none_of_it_lost() -> None:
    begins = [begin for begin, *_ in made([[100], [100]], 13)]
    assert [(begin // 101, begin % 101 // 10) for begin in begins] == list(itertools.product(range(2), range(10)))


@pytest.mark.parametrize("change", [{"seed": 1}, {"sequence_length": 33}])
def test_another_seed_or_length_draws_otherwise(change: dict[str, int]) -> None:
    arguments = {"sequence_length": 32, "seed": 0}
    sizes = [[5] * 50] * 10
    assert made(sizes, **arguments) != made(sizes, **(arguments | change))
    other = pack_pairs(*layout(sizes), 32, 0, "valid-00000-of-00001").tolist()
    assert [tuple(pair) for pair in other] != made(sizes, 32)


def test_a_shard_of_no_document_or_one() -> None:
    assert pack_pairs(*layout([]), 32, 0, "x").shape == (0, 4)
    with pytest.raises(InputError, match="shards: x has one document"):
        pack_pairs(*layout([[3, 4]]), 32, 0, "x")
