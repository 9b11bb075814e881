"""Normalised text → token ids and where its sentences begin, with the tokenizer that the corpus exports.

No token of a tokenizer of ours, or of RoBERTa's, crosses a space, so a document's ids are those of its words, each with
the space before it. Words repeat: most are looked up (`preprocess.words`). That is several times as fast as the
tokenizer on whole documents, and gives its ids (`tests/preprocess/test_encode.py`). Other tokenizers encode whole
documents.
"""

import re
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, pre_tokenizers

from preprocess.pieces import Ids, Numbers, Pieces
from preprocess.sentences import spans
from preprocess.words import Words

_LONGEST = 40  # characters of a word that is worth remembering; Chinese writes whole lines without a space
_SPACE, _LINE_END = ord(" "), ord("\n")
_LINE_ENDS = re.compile(r"\n+")


class Encoded(NamedTuple):
    """A document's ids, the separator at their end not yet among them, and the begins of its sentences (S)."""

    ids: Ids
    sentences: npt.NDArray[np.uint64]


class _Split(NamedTuple):
    """The W words of a document, and where its S sentences begin in them."""

    words: list[str]
    long: Numbers  # words that are too long to be remembered
    within: Numbers  # the word that each sentence begins in, (S)
    cuts: Numbers  # at which character of that word, (S)


def _split(text: str, lines: bool) -> _Split:
    """The words of a document.

    Args:
        lines: whether line ends are characters of the word after them; else they are spaces.
    """
    found = spans(text)
    begins = np.array([begin for begin, _ in found])
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    space, line_end = codes == _SPACE, codes == _LINE_END
    starts = np.empty(len(codes), np.bool_)
    starts[0] = True
    if lines:
        words = _LINE_ENDS.sub(r" \g<0>", text).split(" ")
        starts[1:] = space[:-1] | (line_end[1:] & ~line_end[:-1])
        ends = [end for _, end in found[:-1]]
        begins[1:] = np.where(line_end[begins[1:] - 1], ends, begins[1:])
    else:
        words = text.split()  # what is left of white space in a normalised text are spaces and line ends
        apart = space | line_end
        starts[1:] = apart[:-1] & ~apart[1:]
    first = np.flatnonzero(starts)
    within = np.searchsorted(first, begins, side="right") - 1
    long = np.flatnonzero(np.append(first[1:], len(codes)) - first > _LONGEST)
    return _Split(words, long, within, begins - first[within])


def _space(word: str) -> str:
    """What a word is encoded with in front of it, unless line ends are there."""
    return "" if word[0] == "\n" else " "


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
        self._words = Words(tokenizer.get_vocab(with_added_tokens=False), self._encode_spaced)
        self._lock = Lock()  # some runners do several tasks in the threads of one process

    def encode(self, text: str) -> Encoded:
        """Encode a document, which is not empty."""
        if not self._by_word:
            return self._encode_whole(text)
        with self._lock:
            return self._encode_words(text)

    def _encode_whole(self, text: str) -> Encoded:
        encoding = self._tokens(text)
        begins = [begin for begin, _ in encoding.offsets]
        ends_before = [0, *(end for _, end in spans(text)[:-1])]  # the space before a sentence goes with it
        sentences = np.unique(np.searchsorted(begins, ends_before))
        within = sentences[(sentences > 0) & (sentences < len(begins))]
        return Encoded(np.array(encoding.ids, np.uint32), np.append(0, within).astype(np.uint64))

    def _encode_words(self, text: str) -> Encoded:
        words, long, within, cuts = _split(text, self._lines)
        if len(long) or cuts.any():
            return self._encode_long(words, long, within, cuts)
        first = np.array(self._tokens(words[0]).ids, np.uint32)
        words[0] = ""
        ids, lengths = self._words.encode(words)
        lengths[0] = len(first)
        begins = np.cumsum(lengths) - lengths
        return Encoded(np.append(first, ids), np.unique(begins[within]).astype(np.uint64))

    def _encode_long(self, words: list[str], long: Numbers, within: Numbers, cuts: Numbers) -> Encoded:
        """Encode a document with words that are too long to be remembered, or in which sentences begin."""
        inner = cuts > 0
        apart = np.unique(np.concatenate([[0], long, within[inner]]))
        texts = [words[number] for number in apart.tolist()]
        for number in apart.tolist():
            words[number] = ""
        ids, lengths = self._words.encode(words)
        begins = np.cumsum(lengths) - lengths
        of_apart, lengths[apart], tokens = self._encode_apart(texts, np.searchsorted(apart, within[inner]), cuts[inner])
        ids = np.insert(ids, np.repeat(begins[apart], lengths[apart]), of_apart)
        begins = np.cumsum(lengths) - lengths
        tokens = (begins[within[inner]] + tokens)[tokens < lengths[within[inner]]]
        return Encoded(ids, np.unique(np.append(begins[within[~inner]], tokens)).astype(np.uint64))

    def _encode_apart(self, words: list[str], at: Numbers, cuts: Numbers) -> tuple[Ids, Numbers, Numbers]:
        """Encode the document's first word, which no space precedes, and others that are not remembered.

        Args:
            at: of C cuts, the word that each is in, ascending.
            cuts: the character of that word before which it is (C).

        Returns:
            The words' ids one after the other, how many each has, and of each word that is cut the first token that
            begins behind the cut (C).
        """
        first = at == 0
        ids, lengths, tokens = self._by_offsets(words[:1], at[first], cuts[first])
        if len(words) == 1:
            return ids, lengths, tokens
        others = self._by_bytes(words[1:], at[~first] - 1, cuts[~first])
        if others is None:
            return self._by_offsets(words, at, cuts)
        return np.append(ids, others[0]), np.append(lengths, others[1]), np.append(tokens, others[2])

    def _by_offsets(self, words: list[str], at: Numbers, cuts: Numbers) -> tuple[Ids, Numbers, Numbers]:
        text = [words[0], *(_space(word) + word for word in words[1:])]
        encoding = self._tokens("".join(text))
        begins = np.array([begin for begin, _ in encoding.offsets], np.int64)
        ends = np.cumsum([*map(len, text)])
        counted = np.searchsorted(begins, ends)
        lengths = np.diff(counted, prepend=0)
        tokens = np.searchsorted(begins, (ends - [*map(len, words)])[at] + cuts) - (counted - lengths)[at]
        return np.array(encoding.ids, np.uint32), lengths, tokens

    def _by_bytes(self, words: list[str], at: Numbers, cuts: Numbers) -> tuple[Ids, Numbers, Numbers] | None:
        """The same of words that a space precedes, twice as fast; None where ids do not say what they stand for."""
        ids, lengths = self._encode_spaced(words)
        text = [_space(word) + word for word in words]
        codes = np.frombuffer("".join(text).encode("utf-32-le"), np.uint32)
        sizes = 1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF).astype(np.int64)
        ends = np.cumsum(sizes)
        begins = self._pieces.begins(ids, int(ends[-1]))
        if begins is None:
            return None
        characters = (np.cumsum([*map(len, text)]) - [*map(len, words)])[at] + cuts
        tokens = np.searchsorted(begins, (ends - sizes)[characters]) - (np.cumsum(lengths) - lengths)[at]
        return ids, lengths, tokens

    def _encode_spaced(self, words: list[str]) -> tuple[Ids, Numbers]:
        """Encode words, all in one text: one call for each would take several times as long.

        Each begins with a space or with line ends, which no word has further on: if as many tokens do, these are the
        first of each.
        """
        text = [_space(word) + word for word in words]
        ids = np.array(self._tokenizer.encode_batch_fast(["".join(text)], add_special_tokens=False)[0].ids, np.uint32)
        first = self._pieces.words(ids)
        if len(first) != len(words):
            begins = [begin for begin, _ in self._tokens("".join(text)).offsets]
            first = np.searchsorted(begins, np.cumsum([0, *map(len, text[:-1])]))
        return ids, np.append(first[1:], len(ids)) - first

    def _tokens(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)
