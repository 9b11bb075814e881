"""Encoding word by word gives what the exported tokenizer gives for the whole document."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from preprocess import encode, tokenizer, tokens, words
from preprocess.clean.unicode import normalise
from preprocess.config import TokenizerConfig
from preprocess.encode import Encoder
from preprocess.sentences import spans
from preprocess.spm import BYTES
from preprocess.vocabulary import SPECIAL_IDS, SPECIAL_TOKENS, byte_ids
from tests.preprocess.small import prose

TEXTS = [prose(number, 60) for number in range(4)] + ["aaaa aaaaaaa aa", "日本の文。二番目の文！「三番目。」四。" * 20]
KINDS = ("sentencepiece-unigram", "sentencepiece-bpe", "byte-bpe")


def fast_tokenizer(kind: str) -> Tokenizer:
    config: Any = TypeAdapter(TokenizerConfig).validate_python({"type": kind, "vocab_size": 400})
    return tokenizer.train([line for text in TEXTS for line in text.split("\n")], config, "NFC").tokenizer


@pytest.fixture(scope="module", params=KINDS)
def fast(request: pytest.FixtureRequest) -> Tokenizer:
    return fast_tokenizer(request.param)


@pytest.fixture(scope="module")
def encoder(fast: Tokenizer) -> Encoder:
    return Encoder(Tokenizer.from_str(fast.to_str()))


def whole(fast: Tokenizer, text: str) -> list[int]:
    return list(fast.encode(text, add_special_tokens=False).ids)


def begins(plain: Tokenizer, text: str, lines: bool = False) -> list[int]:
    """Where sentences begin among the ids of a text: at the token of their first character, or of the space before it,
    where one begins there; within a word, at the next of the word; else they do not."""
    found, tokens, end = [0], 0, 0
    for word in re.findall(r"\n*[^ \n]+" if lines else r"[^ \n]+", text):
        at = text.index(word, end)
        end = at + len(word)
        space = " " if at and not word.startswith("\n") else ""
        encoding = plain.encode(space + word, add_special_tokens=False)
        token_begins = [max(0, begin - len(space)) for begin, _ in encoding.offsets]
        for begin, _ in spans(text):
            inner = begin - at - (len(word) - len(word.lstrip("\n")))
            if inner == 0 and begin < end:
                found.append(tokens)
            elif inner > 0 and begin < end:
                found += [tokens + n for n, first in enumerate(token_begins) if first >= begin - at][:1]
        tokens += len(encoding.ids)
    return sorted(set(found))


ODD = "|\n|\r\n|\n\n\n| \t |.|!|?|。|」|「|▁|\u00ad|\u200b|a\u0301|\u0301|\ufeff|\x1f|'s|I'll|aaa|baba|日本|。「|<0x41>"
ODD += '|,|, |.\n|;|:|)|a,|1.|x")|1,0.5|…|\u3000|\xa0|“|’|🙂|\u0085|<|>| '
_piece = st.one_of(
    st.sampled_from(ODD.split("|")),
    st.text(st.characters(codec="utf-8"), max_size=3),
    st.sampled_from(TEXTS[0].split()),
)


def pieces() -> st.SearchStrategy[str]:
    """Texts of words, marks, spaces and characters of every kind."""
    return st.lists(_piece, max_size=60).map("".join)


@given(pieces())
def test_a_document_is_its_words(fast: Tokenizer, encoder: Encoder, raw: str) -> None:
    text = normalise(raw)
    if not text or any(token in raw for token in SPECIAL_TOKENS.values()):
        return
    found = encoder.encode(text)
    assert found.ids.tolist() == whole(fast, raw)
    assert tokens.count_words(text) == len(text.split())
    assert found.sentences.tolist() == begins(encoder._tokenizer, text)


@given(st.lists(pieces().map(normalise).filter(bool), max_size=8))
def test_documents_together_are_those_alone(fast: Tokenizer, encoder: Encoder, texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "_AT_ONCE", 100)
        patch.setattr(encode, "_IN_A_CALL", 30)
        patch.setattr(words, "_REMEMBERED", 50)
        together = list(encoder.encode_all(texts))
    for text, found in zip(texts, together, strict=True):
        alone = encoder.encode(text)
        assert found.ids.tolist() == alone.ids.tolist()
        assert found.sentences.tolist() == alone.sentences.tolist()


@pytest.fixture(scope="module")
def roberta_like() -> Tokenizer:
    """A given byte-level BPE, to which line ends are characters."""
    trained = fast_tokenizer("byte-bpe")
    trained.normalizer = None
    return trained


@given(pieces())
def test_a_given_tokenizer_sees_line_ends(roberta_like: Tokenizer, raw: str) -> None:
    text = normalise(raw)
    if not text or any(token in raw for token in SPECIAL_TOKENS.values()):
        return
    found = Encoder(Tokenizer.from_str(roberta_like.to_str()), given=True).encode(text)
    assert found.ids.tolist() == whole(roberta_like, text)
    assert found.sentences.tolist() == begins(roberta_like, text, lines=True)


def test_a_mark_that_a_piece_joins_to_letters_stays_with_its_word() -> None:
    pieces = ["a", "b", ",", ".", "Ġ", "a,", "Ġa", "Ġa,", "Ġb"]
    merges = [("a", ","), ("Ġ", "a"), ("Ġ", "a,"), ("Ġ", "b")]
    joining = Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, merges))
    joining.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert set(words._lone_marks(joining.get_vocab())) == {"."}
    encoder = Encoder(Tokenizer.from_str(joining.to_str()))
    for text in ("b a, b, b. a. a, b.", "b, b a."):
        assert encoder.encode(text).ids.tolist() == whole(joining, text)


def test_a_failure_leaves_no_word_half_known(fast: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: list[str]) -> None:
        raise MemoryError

    encoder = Encoder(Tokenizer.from_str(fast.to_str()))
    text = "ba bala, ba."
    with monkeypatch.context() as patch:
        patch.setattr(encoder._words, "_encode", fail)
        with pytest.raises(MemoryError):
            encoder.encode(text)
    assert encoder.encode(text).ids.tolist() == whole(fast, text)


@pytest.mark.parametrize("bound", [0, 3, 40])
def test_forgetting_changes_nothing(
    fast: Tokenizer, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    monkeypatch.setattr(words, "_REMEMBERED", bound)
    monkeypatch.setattr(encode, "_LONGEST", bound // 10)
    for text in TEXTS * 2:
        assert encoder.encode(text).ids.tolist() == whole(fast, text)


def test_threads_share_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under Prism's LOOPBACK, and on Dask's workers with several threads."""
    fast = fast_tokenizer("byte-bpe")
    encoder = Encoder(Tokenizer.from_str(fast.to_str()))
    monkeypatch.setattr(words, "_REMEMBERED", 50)
    texts = [f"{'x' * 50} {prose(number, 5)} {'y' * (45 + number % 3)}" for number in range(400)]
    with ThreadPoolExecutor(4) as pool:
        found = [encoded.ids.tolist() for encoded in pool.map(encoder.encode, texts)]
    assert found == [whole(fast, text) for text in texts]


def test_a_special_token_in_a_text_is_characters(fast: Tokenizer, encoder: Encoder) -> None:
    assert set(encoder.special_tokens) == set(SPECIAL_TOKENS.values())
    for token in SPECIAL_TOKENS.values():
        ids = encoder.encode(f"{token} bala {token}").ids.tolist()
        assert fast.token_to_id(token) not in ids
        assert fast.decode(ids, skip_special_tokens=False) == f"{token} bala {token}"


def test_byte_tokens(fast: Tokenizer) -> None:
    found = byte_ids(fast)
    ids = {text: np.array(whole(fast, text)) for text in ("bala", "ł")}
    assert not found[ids["bala"]].any()
    assert found[ids["ł"]][-2:].all()
    if isinstance(fast.decoder, decoders.ByteLevel):
        assert found[list(SPECIAL_IDS.values())].sum() == 0
        assert 128 <= found.sum() < 150
    else:
        assert np.flatnonzero(found).tolist() == list(BYTES)
