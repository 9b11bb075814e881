"""Where a document goes: split and shard, from content hashes and the seed alone; on any machine, in any order.

The shards of a split are contiguous ranges of the documents' ranks (64 bits from content hash and seed), cut so that
each has as many tokens. Where to cut is found from a histogram of tokens over ranks: nothing has to be sorted.
"""

import hashlib
from bisect import bisect_right

import numpy as np
import numpy.typing as npt

from preprocess.config import ShardsConfig, SplitConfig

BINS = 2**22  # of ranks: with 10,000 shards, a bin is a quarter of a percent of one


def _uniform(hash: str, seed: int) -> tuple[float, int]:
    """Two independent draws for a document: one in [0, 1), one of 64 bits."""
    digest = hashlib.sha256(f"{seed}:{hash}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48, int.from_bytes(digest[8:16], "big")


def split_of(hash: str, seed: int, split: SplitConfig) -> str:
    """`valid` and `test` for about their fractions of all documents, else `train`.

    A larger `valid` only adds documents to it.
    """
    draw = _uniform(hash, seed)[0]
    if draw < split.valid:
        return "valid"
    return "test" if draw < split.valid + split.test else "train"


def rank_of(hash: str, seed: int) -> int:
    """A document's place among all, 64 bits: shards are ranges of it, and documents lie in its order."""
    return _uniform(hash, seed)[1]


def bin_of(hash: str, seed: int) -> int:
    """The bin of a document's rank; no shard begins within one."""
    return rank_of(hash, seed) // (2**64 // BINS)


def cut(tokens: npt.NDArray[np.int64], shards: int) -> list[int]:
    """The bins at which the second and the further shards begin.

    Args:
        tokens: of each bin, (BINS,).
        shards: N.

    Returns:
        N − 1 bins, each border as near to its share of the tokens as the bins allow: a shard holds an Nth of them, give
        or take the largest bin. In a small corpus a bin holds one document.
    """
    before = np.append(0, np.cumsum(tokens))
    shares = np.arange(1, shards) * int(before[-1]) // shards
    above = np.searchsorted(before, shares)
    below = np.maximum(above - 1, 0)
    nearer = np.where(before[above] - shares < shares - before[below], above, below)
    return [int(border) for border in nearer]


def shard_key(split: str, hash: str, seed: int, shards: ShardsConfig, cuts: list[int]) -> int:
    """The shard of a document as one number: train shards first, then those of valid and of test (see `shard_of`).

    Args:
        cuts: of the split, see `cut`.
    """
    return shard_keys(split, shards)[bisect_right(cuts, bin_of(hash, seed))]


def shard_of(key: int, shards: ShardsConfig) -> tuple[str, int, int]:
    """(split, number of the shard, shards in the split) of a shard key."""
    if key < shards.train:
        return "train", key, shards.train
    key -= shards.train
    return ("valid", key, shards.valid) if key < shards.valid else ("test", key - shards.valid, shards.test)


def shard_keys(split: str, shards: ShardsConfig) -> range:
    """The keys of a split's shards."""
    before = {"train": 0, "valid": shards.train, "test": shards.train + shards.valid}[split]
    return range(before, before + int(getattr(shards, split)))
