"""MinHash in bands (Broder 1997; Leskovec, Rajaraman and Ullman 2020, chapter 3): similar texts share a band.

Two texts whose sets of word n-grams have the Jaccard similarity s agree in one minimum with probability s, in a band of
r rows with sʳ, and in at least one of b bands with 1 − (1 − sʳ)ᵇ: the chance that they become near-duplicates. With 14
bands of 8 rows that is 5 % at s = 0.5, 56 % at 0.7, 92 % at 0.8 and 99.9 % at 0.9.

The kernel is ours, since a corpus's bytes follow from it, and no library promises its hashes from version to version.
"""

import numpy as np

from preprocess.config import NearConfig
from preprocess.ngrams import Hashes, mix, ngram_hashes, word_hashes

_BLOCK = 1024  # hashes at once: a block of all permutations stays in the cache
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def probability(similarity: float, config: NearConfig) -> float:
    """The chance that two texts of that Jaccard similarity share a band."""
    return float(1 - (1 - similarity**config.rows) ** config.bands)


def signature(hashes: Hashes, size: int) -> Hashes:
    """The minima of a set of hashes under `size` permutations of the 64-bit numbers, x → a·x + b with a odd."""
    draws = mix(np.arange(1, 2 * size + 1, dtype=np.uint64) * _GOLDEN)
    factors, offsets = draws[:size, None] | np.uint64(1), draws[size:, None]
    minima = np.full(size, np.iinfo(np.uint64).max)
    for begin in range(0, len(hashes), _BLOCK):
        block = hashes[begin : begin + _BLOCK] * factors
        block += offsets
        np.minimum(minima, block.min(axis=1), out=minima)
    return minima


def band_hashes(text: str, config: NearConfig) -> Hashes:
    """One hash for each band of a text's signature; none when it has no words. A short text is one n-gram."""
    hashes = ngram_hashes(text, config.ngram)
    if not len(hashes):
        words = word_hashes(text)
        if not len(words):
            return words
        hashes = ngram_hashes(text, len(words))
    minima = mix(signature(hashes, config.bands * config.rows)).reshape(config.bands, config.rows)
    bands = np.arange(config.bands, dtype=np.uint64)  # the same minima in another band are another hash
    for row in range(config.rows):
        bands = mix(bands * _GOLDEN + minima[:, row])
    return bands
