"""Normalised text → token ids and where its sentences begin, with the tokenizer that the corpus exports.

No token of a tokenizer of ours, or of RoBERTa's, crosses a space, so a document's ids are those of its words, each with
the space before it. Words repeat: most are looked up. That is several times as fast as the tokenizer on whole
documents, and gives its ids (`tests/preprocess/test_encode.py`). Other tokenizers encode whole documents.
"""

from collections.abc import Iterator
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, pre_tokenizers

from preprocess.sentences import spans

_REMEMBERED = 500_000  # words: about 100 MB
_LONGEST = 40  # characters of a word that is worth remembering; Chinese writes whole lines without a space


class Encoded(NamedTuple):
    """A document's ids, the separator at their end not yet among them, and the begins of its sentences (S)."""

    ids: npt.NDArray[np.uint32]
    sentences: npt.NDArray[np.uint64]


class _Words(NamedTuple):
    words: list[str]
    first: list[int]  # words that begin sentences
    divided: dict[int, list[int]]  # word → its characters at which further sentences begin (Chinese)


def _groups(text: str) -> Iterator[list[tuple[int, int]]]:
    """Sentences that follow each other without a space in one group."""
    group: list[tuple[int, int]] = []
    for begin, end in spans(text):
        if group and group[-1][1] != begin:
            yield group
            group = []
        group.append((begin, end))
    yield group


def _space(word: str) -> str:
    """What a word is encoded with in front of it, unless line ends are there."""
    return "" if word[0] == "\n" else " "


def _words(text: str, lines: bool) -> _Words:
    """The words of a document.

    Args:
        lines: whether line ends are characters of the word after them; else they are spaces.
    """
    found = _Words([], [], {})
    end = 0
    for group in _groups(text):
        offset = end if lines and text[end] == "\n" else group[0][0]
        end = group[-1][1]
        words = text[offset:end].split(" ")  # of white space, a group has single spaces only
        found.first.append(len(found.words))
        if len(group) > 1:
            begins = np.cumsum([0, *(len(word) + 1 for word in words)])
            cuts = np.array([begin - offset for begin, _ in group[1:]])
            within = np.searchsorted(begins, cuts, side="right") - 1
            for word, cut in zip(within.tolist(), (cuts - begins[within]).tolist(), strict=True):
                found.divided.setdefault(len(found.words) + word, []).append(cut)
        found.words.extend(words)
    return found


def _bytes(ids: list[int]) -> bytes:
    return np.array(ids, np.uint32).tobytes()


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
        self._known = {"": b""}  # word → the bytes of its ids
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
        words, first, divided = _words(text, self._lines)
        apart, within = self._encode_apart(words, divided)
        fresh = set(words).difference(self._known)  # `- self._known.keys()` would go through all that are known
        self._learn([*fresh])
        parts = [*map(self._known.__getitem__, words)]
        for number, part in apart.items():
            parts[number] = part
        self._forget(fresh)
        lengths = np.fromiter(map(len, parts), np.int64, len(parts)) // 4
        begins = np.cumsum(lengths) - lengths
        inner = [int(begins[number]) + token for number, tokens in within.items() for token in tokens]
        sentences = np.unique(np.concatenate([begins[first], np.array(inner, np.int64)]))
        return Encoded(np.frombuffer(b"".join(parts), np.uint32), sentences.astype(np.uint64))

    def _learn(self, words: list[str]) -> None:
        """Encode words, all in one text: one call for each would take several times as long."""
        text = [_space(word) + word for word in words]
        encoding = self._tokens("".join(text))
        ends = np.cumsum([len(word) for word in text])
        cuts = np.searchsorted([begin for begin, _ in encoding.offsets], [0, *ends])
        ids = np.array(encoding.ids, np.uint32)
        for word, begin, end in zip(words, cuts.tolist(), cuts[1:].tolist(), strict=False):
            self._known[word] = ids[begin:end].tobytes()

    def _tokens(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _encode_apart(
        self, words: list[str], divided: dict[int, list[int]]
    ) -> tuple[dict[int, bytes], dict[int, list[int]]]:
        """The ids of the document's first word, which no space precedes, and of words in which sentences begin, and
        the tokens in them that begin one; they are blanked out of `words`."""
        ids, within = {}, {}
        for number in {0, *divided}:
            space = _space(words[number]) if number else ""
            encoding = self._tokens(space + words[number])
            ids[number] = _bytes(encoding.ids)
            begins = [begin for begin, _ in encoding.offsets]
            cuts = [len(space) + cut for cut in divided.get(number, ())]
            tokens = np.unique(np.searchsorted(begins, cuts)).tolist()
            within[number] = [token for token in tokens if 0 < token < len(begins)]
            words[number] = ""
        return ids, within

    def _forget(self, fresh: set[str]) -> None:
        """Bound the memory: what a document had of long words, and, when there are too many, all."""
        for word in fresh:
            if len(word) > _LONGEST:
                del self._known[word]
        if len(self._known) > _REMEMBERED:
            self._known = {"": b""}
