"""SEGMENT-PAIR packing, for next-sentence prediction (BERT, Devlin et al. 2019, sections 3.1 and A.2, and its published
`create_pretraining_data.py`; the name is that of RoBERTa, Liu et al. 2019, section 4.2).

A document's sentences are gathered until they reach a length: T − 3, or, for one pair in ten, a random shorter one.
They are cut at a random sentence into A and B. For half of the pairs, and where there is but one sentence, B is text
from another document instead, from a random sentence on, and the sentences that it replaces are put back. A pair longer
than T − 3 (`<s> A </s> B </s>`) loses tokens of its longer segment, each at the front or at the back by a coin.

Differences from the published program: the length is drawn for every pair, not once a document; a sentence longer than
T − 3 is cut first, so that its rest is not lost; another document is another one of the same shard, so that a shard is
made, and can be read, alone. Every draw is keyed by the seed, the shard, T and the pair's number.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from pipeline.errors import InputError
from pipeline.keyed import GOLDEN, derive, mix
from preprocess.pack import Offsets, cut_long

SHORT, RANDOM = 0.1, 0.5  # shares of pairs with a shorter length, and with a B from elsewhere
_DRAWS = 8  # of 64 bits, a pair
_TOGETHER = 1024  # pairs: shares the cost of numpy's calls
_WORD = 1 << 64


def _draws(key: int) -> Iterator[list[int]]:
    """Eight draws for pair 0, 1, 2, …"""
    for first in range(0, 2**62, _TOGETHER * _DRAWS):
        counters = np.arange(first, first + _TOGETHER * _DRAWS, dtype=np.uint64)
        yield from mix((counters + np.uint64(1)) * GOLDEN ^ np.uint64(key)).reshape(-1, _DRAWS).tolist()


def _below(bound: int, draw: int) -> int:
    return bound * draw >> 64


def _cut(begin: int, end: int, length: int, draw: int) -> tuple[int, int]:
    """A range of at most `length`; each token that is too much is taken from its front or its back by a coin."""
    surplus = end - begin - length
    if surplus <= 0:
        return begin, end
    coins = hashlib.shake_128(draw.to_bytes(8, "little")).digest(surplus // 8 + 1)
    front = (int.from_bytes(coins, "little") & ((1 << surplus) - 1)).bit_count()
    return begin + front, begin + front + length


def pack_pairs(sentences: Offsets, documents: Offsets, sequence_length: int, seed: int, shard: str) -> Offsets:
    """The pairs of a shard.

    Args:
        sentences, documents: offsets as for `preprocess.pack.pack`, (S + 1) and (D + 1).
        sequence_length: T.
        seed: of the corpus.
        shard: its name; both key the draws.

    Returns:
        (N, 4): where A begins and ends, and where B does, neither with the separator of a document. Each has a token at
        least, both together T − 3 at most. B follows A in the same document, or is of another one.

    Raises:
        InputError: the shard has one document only.
    """
    room, total = sequence_length - 3, len(documents) - 1
    half = (room + 1) // 2
    if total == 0:
        return np.zeros((0, 4), np.uint64)
    if total == 1:
        raise InputError(
            f"shards: {shard} has one document, and packing: segment-pair pairs two of a shard; give fewer shards"
        )
    starts, stops = cut_long(sentences, documents, room)
    first = np.append(np.searchsorted(starts, documents[:-1].astype(np.int64)), len(starts))
    begins, ends, firsts = starts.data, stops.data, first.data
    draws = _draws(derive("segment-pair", seed, shard, sequence_length))
    pairs: list[tuple[int, int, int, int]] = []
    for document in range(total):
        piece, last = firsts[document], firsts[document + 1] - 1
        while piece <= last:
            short, shorter, split, coin, other, start, cut_a, cut_b = next(draws)
            target = room if short >= SHORT * _WORD else 2 + _below(room - 1, shorter)
            final = bisect_left(ends, begins[piece] + target, piece, last)
            middle = piece + (1 + _below(final - piece, split) if final > piece else 1)  # where B would begin
            a_begin, a_end = begins[piece], ends[middle - 1]
            if final == piece or coin < RANDOM * _WORD:
                other = (document + 1 + _below(total - 1, other)) % total
                b_last = firsts[other + 1] - 1
                b_first = firsts[other] + _below(b_last + 1 - firsts[other], start)
                wanted = begins[b_first] + target - (a_end - a_begin)
                b_begin, b_end = begins[b_first], ends[bisect_left(ends, wanted, b_first, b_last)]
                piece = middle
            else:
                b_begin, b_end = begins[middle], ends[final]
                piece = final + 1
            a_room, b_room = room - (b_end - b_begin), room - (a_end - a_begin)
            pair = (
                *_cut(a_begin, a_end, max(a_room, half), cut_a),
                *_cut(b_begin, b_end, max(b_room, room - half), cut_b),
            )
            pairs.append(pair)
    return np.array(pairs, np.uint64)
