"""Keyed randomness without state: a number is a function of its key and its position (law 1).

`derive` makes a 64-bit key from names and numbers; `mix` turns 64-bit positions into 64 well-mixed bits. Nothing is
drawn in sequence, so nothing has to be replayed on resume.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from pipeline.files import canonical_json

U64 = npt.NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: successive multiples spread over all bits
_MULTIPLY_1, _MULTIPLY_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)


def derive(*parts: str | int) -> int:
    """A 64-bit key from named parts: `derive("order", seed, corpus_digest, epoch)`."""
    return int.from_bytes(hashlib.blake2b(canonical_json(list(parts)), digest_size=8).digest(), "little")


def mix(values: U64) -> U64:
    """Mix 64-bit values in place and return them: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014, fig. 16)."""
    scratch = values >> _SHIFT_1
    values ^= scratch
    values *= _MULTIPLY_1
    np.right_shift(values, _SHIFT_2, out=scratch)
    values ^= scratch
    values *= _MULTIPLY_2
    np.right_shift(values, _SHIFT_3, out=scratch)
    values ^= scratch
    return values
