"""Where a document goes: split and shard, from its content hash and the seed alone; on any machine, in any order."""

import hashlib

from preprocess.config import ShardsConfig, SplitConfig


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


def shard_key(hash: str, seed: int, split: SplitConfig, shards: ShardsConfig) -> int:
    """The shard of a document as one number: train shards first, then those of valid and of test (see `shard_of`)."""
    bits = _uniform(hash, seed)[1]
    name = split_of(hash, seed, split)
    before = {"train": 0, "valid": shards.train, "test": shards.train + shards.valid}[name]
    return before + bits % int(getattr(shards, name))


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
