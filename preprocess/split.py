"""Where a document goes: split and shard, from its content hash and the seed alone; on any machine, in any order."""

import hashlib

from preprocess.config import ShardsConfig


def _uniform(hash: str, seed: int) -> tuple[float, int]:
    """Two independent draws for a document: one in [0, 1), one of 64 bits."""
    digest = hashlib.sha256(f"{seed}:{hash}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48, int.from_bytes(digest[8:16], "big")


def split_of(hash: str, seed: int, valid: float) -> str:
    """`valid` for about the fraction `valid` of all documents, else `train`. A larger fraction only adds documents."""
    return "valid" if _uniform(hash, seed)[0] < valid else "train"


def shard_key(hash: str, seed: int, valid: float, shards: ShardsConfig) -> int:
    """The shard of a document as one number: train shards first, then those of valid (see `shard_of`)."""
    bits = _uniform(hash, seed)[1]
    if split_of(hash, seed, valid) == "train":
        return bits % shards.train
    return shards.train + bits % shards.valid


def shard_of(key: int, shards: ShardsConfig) -> tuple[str, int, int]:
    """(split, number of the shard, shards in the split) of a shard key."""
    if key < shards.train:
        return "train", key, shards.train
    return "valid", key - shards.train, shards.valid
