"""Packing: nothing lost, nothing over the length, nothing cut that would fit, as much as fits."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.config import Packing
from preprocess.pack import pack

Sizes = list[list[int]]  # documents as lists of sentence lengths, the separator not counted


def layout(documents: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """(sentences, documents): offsets as in a shard's index, each document's separator in its last sentence."""
    sentence_begins, document_begins, position = [], [], 0
    for document in documents:
        document_begins.append(position)
        for size in document:
            sentence_begins.append(position)
            position += size
        position += 1
    return np.array([*sentence_begins, position], np.uint64), np.array([*document_begins, position], np.uint64)


documents_of_sentences = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), max_size=8)


@pytest.mark.parametrize("packing", ["full-sentences", "doc-sentences"])
@given(sizes=documents_of_sentences, sequence_length=st.integers(8, 40))
def test_samples_are_a_partition_that_fits_and_is_maximal(packing: Packing, sizes: Sizes, sequence_length: int) -> None:
    sentences, documents = layout(sizes)
    samples = pack(sentences, documents, sequence_length, packing)
    room, total = sequence_length - 2, int(sentences[-1])
    separators = set(documents[1:].tolist())

    def needs(begin: int, end: int) -> int:
        return end - (end in separators) - begin

    assert samples.dtype == np.uint64
    assert samples[0] == 0
    assert samples[-1] == total
    spans = list(zip(samples[:-1].tolist(), samples[1:].tolist(), strict=True))
    assert all(begin < end and 1 <= needs(begin, end) <= room for begin, end in spans)
    edges = sentences.tolist()
    following_end = dict(itertools.pairwise(edges))
    borders = separators if packing == "doc-sentences" else set()
    assert borders <= set(samples.tolist()), "each document ends a sample"
    for begin, end in spans[:-1]:
        if end in borders:
            continue
        if end in following_end:  # the next sample begins with a whole sentence: it did not fit here
            assert needs(begin, following_end[end]) > room
        else:  # a cut within a sentence: full, and the sentence is longer than any sample
            sentence = max(edge for edge in edges if edge < end)
            assert end - begin == room
            assert needs(sentence, following_end[sentence]) > room
            assert (end - sentence) % room == 0, "a long sentence begins a sample of its own"


def test_crosses_documents_and_leaves_the_last_separator_outside() -> None:
    sentences, documents = layout([[3], [2]])  # a a a | b b |
    assert pack(sentences, documents, 8).tolist() == [0, 7]  # 3 + separator + 2 = 6 = T − 2, then the last separator
    assert pack(sentences, documents, 7).tolist() == [0, 4, 7]


def test_a_sample_ends_with_its_document() -> None:
    sentences, documents = layout([[3, 1], [2], [9, 1]])  # a a a a | b b | c … c | of which c takes more than a sample
    assert pack(sentences, documents, 8, "doc-sentences").tolist() == [0, 5, 8, 14, 19]


def test_a_long_sentence_begins_a_sample_and_its_rest_goes_on() -> None:
    sentences, documents = layout([[2, 15, 3, 4]])
    assert pack(sentences, documents, 8).tolist() == [0, 2, 8, 14, 20, 25]


def test_no_tokens() -> None:
    assert pack(*layout([]), 8).tolist() == [0]


@pytest.mark.parametrize("sequence_length", [16, 128])
def test_is_linear(sequence_length: int) -> None:
    sizes = np.random.default_rng(0).integers(1, 40, (2000, 50)).tolist()
    samples = pack(*layout(sizes), sequence_length)
    assert len(samples) > 1000
