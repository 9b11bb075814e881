"""What token ids alone say of the text that they stand for: where words begin, and bytes.

To ask a tokenizer for the characters of its tokens takes as long again as the ids.
"""

import re

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers

from preprocess.clean.unicode import META

Ids = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int64]

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Pieces:
    """The pieces of a byte-level BPE, or of SentencePiece's models with byte fallback, by their ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        byte_level = isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel)
        space, line_end = "ĠĊ" if byte_level else (META, "\n")
        number = max(vocabulary.values(), default=0) + 1
        self._spaced, self._on_line, self._bytes = (np.zeros(number, np.bool_) for _ in range(3))
        self._sizes = np.zeros(number, np.int64)
        for piece, id in vocabulary.items():
            byte = not byte_level and _BYTE.fullmatch(piece) is not None
            self._spaced[id], self._on_line[id], self._bytes[id] = piece[:1] == space, piece[:1] == line_end, byte
            self._sizes[id] = 1 if byte else len(piece) if byte_level else len(piece.replace(META, " ").encode())
        self._sizes[[vocabulary[token] for token in _special_tokens(tokenizer) if token in vocabulary]] = 0
        self._unknown_joined = isinstance(tokenizer.model, models.Unigram)

    def words(self, ids: Ids) -> Numbers:
        """The tokens that begin with a space, or with line ends, of which there may be several in a row."""
        spaced, on_line = self._spaced[ids], self._on_line[ids]
        if on_line.any():
            spaced[0] |= on_line[0]
            spaced[1:] |= on_line[1:] & ~on_line[:-1]
        return np.flatnonzero(spaced)

    def begins(self, ids: Ids, size: int) -> Numbers | None:
        """The byte that each token begins at, as the tokenizer counts; None if that is not to be seen.

        A unigram model takes unknown characters in a row for one, which all bytes of it begin with.

        Args:
            size: of the text in bytes.
        """
        sizes = self._sizes[ids]  # of none too many: an unknown one counts 0, and `<0x41>` that is written out 1
        ends = np.cumsum(sizes)
        if not len(ids) or ends[-1] != size:
            return None
        begins = ends - sizes
        if not self._unknown_joined:
            return begins
        going_on = self._bytes[ids]
        going_on[1:] &= going_on[:-1].copy()
        going_on[0] = False
        return begins[np.maximum.accumulate(np.where(going_on, 0, np.arange(len(ids))))]


def _special_tokens(tokenizer: Tokenizer) -> list[str]:
    return [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
