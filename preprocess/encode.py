"""Normalised text → token ids and where its sentences begin, with the tokenizer that the corpus exports.

No token of a tokenizer of ours, or of RoBERTa's, crosses a space, so a document's ids are those of its words, each with
the white space before it. Words repeat: most are looked up (`preprocess.words`), those of many documents at once. That
is several times as fast as the tokenizer on whole documents, and gives its ids (`tests/preprocess/test_encode.py`).
Other tokenizers encode whole documents.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Encoding, Tokenizer, pre_tokenizers

from preprocess.pieces import Ids, Numbers, Pieces
from preprocess.sentences import spans
from preprocess.words import Words

_LONGEST = 80  # bytes of a word that is worth remembering; Chinese writes whole lines without a space
_AT_ONCE = 2_000_000  # characters: it bounds the memory, and in so many most words occur several times
_IN_A_CALL = 500_000  # characters of words: the tokenizer takes up to 300 bytes for each
_SPACE, _LINE_END = b" \n"

Mask = npt.NDArray[np.bool_]


class Encoded(NamedTuple):
    """A document's ids, the separator at their end not yet among them, and the begins of its sentences (S)."""

    ids: Ids
    sentences: npt.NDArray[np.uint64]


class _Cut(NamedTuple):
    """The W words of D documents, one after the other, and where their S sentences begin in them."""

    words: pa.StringArray  # each with the white space before it, which a document's first has not
    sizes: Numbers  # of the words in bytes, (W)
    first: Numbers  # the first word of each document, (D)
    document: Numbers  # of each sentence, (S)
    within: Numbers  # the word that each sentence begins in, (S)
    cuts: Numbers  # at which byte of that word; 0 if with the word, (S)


def _cut(texts: Sequence[str], lines: bool) -> _Cut:
    """The words of documents.

    Args:
        lines: whether line ends are characters of the word after them; else they are spaces.
    """
    if not lines:
        texts = [text.replace("\n\n", "\n") for text in texts]
    found = [spans(text) for text in texts]
    counts = np.array([len(sentences) for sentences in found])
    documents = np.cumsum([0, *map(len, texts[:-1])])
    begins = np.array([begin for begin, _ in chain.from_iterable(found)]) + np.repeat(documents, counts)
    joined = "".join(texts)
    data = joined.encode()
    codes = np.frombuffer(data, np.uint8)
    if not joined.isascii():
        characters = np.flatnonzero((codes & 0xC0) != 0x80)
        documents, begins = characters[documents], characters[begins]
    blank = (codes == _SPACE) | (codes == _LINE_END)
    starts = blank.copy()
    starts[1:] &= ~blank[:-1]
    starts[documents] = True
    inner = ~(starts[begins] | blank[begins - 1])
    first = np.flatnonzero(starts)
    within = np.searchsorted(first, begins, side="right") - 1
    ends = np.append(first, len(codes))
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(data if lines else data.replace(b"\n", b" "))]
    return _Cut(
        pa.Array.from_buffers(pa.string(), len(first), buffers),
        np.diff(ends),
        np.searchsorted(first, documents),
        np.repeat(np.arange(len(texts)), counts),
        within,
        np.where(inner, begins - first[within], 0),
    )


def _merged(which: Mask, these: tuple[Ids, Numbers], others: tuple[Ids, Numbers]) -> tuple[Ids, Numbers]:
    """The ids of words, and how many each has: `these` are those of the words in the mask, `others` of the others."""
    lengths = np.empty(len(which), np.int64)
    lengths[which], lengths[~which] = these[1], others[1]
    of_these = np.repeat(which, lengths)
    ids = np.empty(len(of_these), np.uint32)
    ids[of_these], ids[~of_these] = these[0], others[0]
    return ids, lengths


def _batches(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    """Texts, some at once: a batch ends with the text that makes it `most` characters or more."""
    batch, characters = [], 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= most:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _cuts_at_spaces(tokenizer: Tokenizer) -> bool:
    """Is a given tokenizer one that cuts before each space, and sees nothing of a text but its words: RoBERTa's?"""
    cutter, added = tokenizer.pre_tokenizer, tokenizer.get_added_tokens_decoder().values()
    byte_level = isinstance(cutter, pre_tokenizers.ByteLevel) and cutter.use_regex and not cutter.add_prefix_space
    return byte_level and tokenizer.normalizer is None and all(token.special for token in added)


class Encoder:
    """The exported tokenizer, to which the special tokens are characters of a text here.

    Args:
        tokenizer: is changed.
        given: it is not of ours: line ends may be more than spaces to it, and it may see whole texts.
    """

    def __init__(self, tokenizer: Tokenizer, given: bool = False) -> None:
        self._by_word, self._lines = not given or _cuts_at_spaces(tokenizer), given
        if not given:
            tokenizer.normalizer = None  # a normalised text is not changed by it, but a word may lose its space
        tokenizer.encode_special_tokens = True
        added = tokenizer.get_added_tokens_decoder().values()
        self.special_tokens = [token.content for token in added if token.special]
        self._tokenizer = tokenizer
        self._pieces = Pieces(tokenizer)
        self._words = Words(tokenizer.get_vocab(with_added_tokens=False), self._encode_new)
        self._lock = Lock()  # some runners do several tasks in the threads of one process

    def encode(self, text: str) -> Encoded:
        """Encode a document, which is not empty."""
        return next(self.encode_all([text]))

    def encode_all(self, texts: Iterable[str]) -> Iterator[Encoded]:
        """Encode documents, none of which is empty; some are read ahead."""
        if not self._by_word:
            yield from map(self._encode_whole, texts)
            return
        for batch in _batches(texts, _AT_ONCE):
            with self._lock:
                found = self._encode_words(batch)
            yield from found

    def _encode_whole(self, text: str) -> Encoded:
        encoding = self._tokens(text)
        begins = [begin for begin, _ in encoding.offsets]
        ends_before = [0, *(end for _, end in spans(text)[:-1])]  # the space before a sentence goes with it
        sentences = np.unique(np.searchsorted(begins, ends_before))
        within = sentences[(sentences > 0) & (sentences < len(begins))]
        return Encoded(np.array(encoding.ids, np.uint32), np.append(0, within).astype(np.uint64))

    def _encode_words(self, texts: Sequence[str]) -> list[Encoded]:
        cut = _cut(texts, self._lines)
        apart = cut.sizes > _LONGEST
        apart[cut.within[cut.cuts > 0]] = True
        if apart.any():
            new = self._encode_new(cut.words.filter(pa.array(apart)).to_pylist())
            ids, lengths = _merged(apart, new, self._words.encode(cut.words.filter(pa.array(~apart))))
        else:
            ids, lengths = self._words.encode(cut.words)
        ends = np.append(0, np.cumsum(lengths))
        sentences, document = self._begins(cut, ids, ends)
        bounds = pairwise([*ends[cut.first].tolist(), len(ids)])
        by_document = np.split(sentences, np.searchsorted(document, np.arange(1, len(texts))))
        return [
            Encoded(ids[begin:end], (begins - begin).astype(np.uint64))
            for (begin, end), begins in zip(bounds, by_document, strict=True)
        ]

    def _begins(self, cut: _Cut, ids: Ids, ends: Numbers) -> tuple[Numbers, Numbers]:
        """The first token of each sentence, and its document; a sentence that no token begins in has none.

        Args:
            ends: before the first of the W words, and behind each of them, how many tokens there are (W + 1).
        """
        tokens, document = ends[cut.within], cut.document
        inner = np.flatnonzero(cut.cuts)
        words, first = np.unique(cut.within[inner], return_index=True)
        for word, here in zip(words.tolist(), np.split(inner, first[1:]), strict=False):
            of_word = ids[ends[word] : ends[word + 1]]
            tokens[here] += np.searchsorted(self._token_begins(cut.words[word].as_py(), of_word), cut.cuts[here])
        begun = np.ones(len(tokens), np.bool_)
        begun[inner] = tokens[inner] < ends[cut.within[inner] + 1]
        tokens, document = tokens[begun], document[begun]
        again = (np.diff(tokens) == 0) & (np.diff(document) == 0)
        another = np.append(True, ~again)
        return tokens[another], document[another]

    def _token_begins(self, word: str, ids: Ids) -> Numbers:
        """The byte of a word that each of its tokens begins at, as the tokenizer counts."""
        data = word.encode()
        begins = self._pieces.begins(ids, len(data))
        if begins is not None:
            return begins  # twice as fast
        characters = np.flatnonzero((np.frombuffer(data, np.uint8) & 0xC0) != 0x80)
        return characters[[begin for begin, _ in self._tokens(word).offsets]]

    def _encode_new(self, words: list[str]) -> tuple[Ids, Numbers]:
        """Encode words that are not known, (ids one after the other, how many each has)."""
        ids, lengths = zip(*map(self._encode_some, _batches(words, _IN_A_CALL)), strict=True)
        return np.concatenate(ids), np.concatenate(lengths)

    def _encode_some(self, words: list[str]) -> tuple[Ids, Numbers]:
        first = np.array([word[0] not in " \n" for word in words], np.bool_)
        if not first.any():
            return self._encode_spaced(words)
        alone = [self._tokens(word).ids for word, is_first in zip(words, first, strict=True) if is_first]
        these = np.array([*chain.from_iterable(alone)], np.uint32), np.array([*map(len, alone)])
        return _merged(first, these, self._encode_spaced([word for word in words if word[0] in " \n"]))

    def _encode_spaced(self, words: list[str]) -> tuple[Ids, Numbers]:
        """Encode words that white space precedes, all in one text: one call for each would take several times as long.

        Each begins with a space or with line ends, which no word has further on: if as many tokens do, these are the
        first of each.
        """
        text = "".join(words)
        ids = np.array(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids, np.uint32)
        first = self._pieces.words(ids)
        if len(first) != len(words):
            begins = [begin for begin, _ in self._tokens(text).offsets]
            first = np.searchsorted(begins, np.cumsum([0, *map(len, words[:-1])]))
        return ids, np.append(first[1:], len(ids)) - first

    def _tokens(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)
