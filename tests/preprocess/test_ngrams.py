"""Word n-grams: what counts as a word, and that the hashes are the same however a text is written or cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess import ngrams
from preprocess.ngrams import ngram_hashes, word_hashes

WORDS = st.lists(
    st.text(st.characters(categories=["Ll", "Nd"], max_codepoint=0x24F), min_size=1, max_size=8), max_size=30
)

GOLDEN = ["0x50b9909d0745098f", "0x19918197a612bad4"]


def plain(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@given(WORDS, st.integers(1, 6))
def test_equal_ngrams_have_equal_hashes_and_others_do_not(words: list[str], n: int) -> None:
    folded = [word.casefold() for word in words]
    expected = plain(folded, n)
    found = ngram_hashes(", ".join(words), n)
    assert len(found) == len(expected)
    assert len(set(found.tolist())) == len(set(expected))
    assert len(set(zip(found.tolist(), expected, strict=True))) == len(set(expected))


@given(WORDS, st.sampled_from([" ", "\n\n", " – ", "...", "\u3000"]))
def test_case_and_what_stands_between_words_do_not_count(words: list[str], between: str) -> None:
    found = word_hashes(f"«{between.join(words).upper()}»")
    assert found.tolist() == word_hashes(" ".join(words).upper()).tolist()
    assert found.dtype == np.uint64


def test_characters_of_unspaced_scripts_are_words() -> None:
    assert len(word_hashes("道可道，非常道。")) == 6
    assert word_hashes("道可道").tolist() == word_hashes("道 可 道").tolist()
    assert len(word_hashes("Tao道te")) == 3
    assert len(word_hashes("हिन्दी में")) == 2  # vowel signs are marks, and part of the word


def test_texts_without_words() -> None:
    for text in ("", " ", "…!?", "\n" * 10):
        assert len(word_hashes(text)) == 0
        assert len(ngram_hashes(text, 13)) == 0
    assert len(ngram_hashes("too few words", 4)) == 0


def test_a_long_text_is_cut_between_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"word{number}" for number in range(1000))
    whole = ngram_hashes(text, 5)
    for size in (1, 7, 64, 5000):
        monkeypatch.setattr(ngrams, "_PIECE", size)
        assert ngram_hashes(text, 5).tolist() == whole.tolist()


def test_the_hashes_are_the_same_on_every_machine() -> None:
    assert [hex(value) for value in ngram_hashes("The same everywhere", 2).tolist()] == GOLDEN
