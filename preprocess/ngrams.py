"""Hashes of a text's word n-grams, for finding near-duplicates and contamination: vectorised, the same everywhere.

A word is a run of letters, digits and marks, blind to case; in scripts that are written without spaces (Chinese,
Japanese, Thai …) every character is a word. Punctuation and spacing do not count.
"""

import re
import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Widths = npt.NDArray[np.int64]

_PIECE = 1_000_000  # characters hashed at once: bounds the memory for a long document
_SPACE = re.compile(r"\s")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd: 2⁶⁴ / the golden ratio
_UNSPACED = (  # first and last code points
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
UNSPACED = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSPACED) + "]")


def mix(values: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the value (Steele et al. 2014, SplitMix64's finaliser)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=1)
def _kinds() -> npt.NDArray[np.uint8]:
    """For each code point: 0 between words, 1 part of a word, 2 a word of its own."""
    kinds = np.fromiter((unicodedata.category(chr(code))[0] in "LNM" for code in range(0x110000)), np.uint8, 0x110000)
    for first, last in _UNSPACED:
        kinds[first : last + 1] *= 2
    return kinds


@lru_cache(maxsize=1)
def _values() -> Hashes:
    """For each code point, what it adds to a word's hash; between words nothing."""
    return mix(np.arange(0x110000, dtype=np.uint64) + _MULTIPLIER) * (_kinds() > 0)


def _piece_hashes(text: str) -> tuple[Hashes, Widths]:
    codes = np.frombuffer(text.casefold().encode("utf-32-le", "surrogatepass"), "<u4")
    kinds = _kinds()[codes]
    goes_on = np.concatenate([[False], (kinds[1:] == 1) & (kinds[:-1] == 1)])
    begins = np.flatnonzero((kinds > 0) & ~goes_on)
    if not len(begins):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    first = begins[0]
    codes, kinds, begins = codes[first:], kinds[first:], begins - first
    # a word's hash is a polynomial in its characters; what stands between words counts nothing
    widths = np.diff(begins, append=len(codes))
    within = np.arange(len(codes)) - np.repeat(begins, widths)
    powers = np.cumprod(np.full(int(within.max()) + 1, _MULTIPLIER))
    return mix(np.add.reduceat(_values()[codes] * powers[within], begins)), widths


def words(text: str) -> tuple[Hashes, Widths]:
    """One 64-bit hash for each word of a text, and how many characters it is to the next word (or the end)."""
    pieces, begin = [(np.zeros(0, np.uint64), np.zeros(0, np.int64))], 0
    while begin < len(text):
        space = _SPACE.search(text, begin + _PIECE)
        end = space.start() if space else len(text)
        pieces.append(_piece_hashes(text[begin:end]))
        begin = end
    hashes, widths = zip(*pieces, strict=True)
    return np.concatenate(hashes), np.concatenate(widths)


def word_hashes(text: str) -> Hashes:
    """One 64-bit hash for each word of a text."""
    return words(text)[0]


def chained(hashes: Hashes, words: Hashes) -> Hashes:
    """The hash of what `hashes` are of with one more word each."""
    return hashes * _MULTIPLIER + words


def ngram_hashes(text: str, n: int) -> Hashes:
    """One 64-bit hash for each n words in a row: the one at position i is of the words i … i + n − 1.

    Returns:
        max(0, words − n + 1) hashes.
    """
    found = word_hashes(text)
    count = max(0, len(found) - n + 1)
    hashes = np.zeros(count, np.uint64)
    for offset in range(n):
        hashes = chained(hashes, found[offset : offset + count])
    return mix(hashes)
