"""Dynamic masking: which tokens are predicted and what stands in their place (BERT, section 3.1; RoBERTa, section 4.1).

A token is chosen with `mlm_probability`; a chosen token becomes `<mask>` (80 %), another ordinary token (10 %) or
stays (10 %). Each decision hashes (key, global index of the sample, position in it): no generator, no state, so a
sample has the same mask whichever rank, worker or restart reads it, and a new one in each epoch.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.keyed import GOLDEN, U64, mix
from pipeline.order import Indices

Ids = npt.NDArray[np.int32]

_32 = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


class Masked(NamedTuple):
    """A masked micro-batch."""

    input_ids: Ids  # (B, T), replaced where chosen
    positions: Indices  # (N,) flat indices into B·T of the predicted tokens, ascending
    labels: Ids  # (N,) the original ids there


def _fraction(probability: float) -> np.uint64:
    """The 32-bit threshold below which a uniform 32-bit number falls with this probability."""
    return np.uint64(round(probability * 2**32))


class Masker:
    """The masking rule of a run.

    Args:
        key: from `keyed.derive`, so that training and evaluation, seeds and corpora have masks of their own.
        vocab_size: V. special_ids: never chosen, never drawn. mask_id: of `<mask>`.
        mlm_probability: share of the ordinary tokens that are predicted.
        mask_share, random_share: of the chosen ones; the rest stay as they are.
    """

    def __init__(
        self,
        key: int,
        vocab_size: int,
        special_ids: Collection[int],
        mask_id: int,
        mlm_probability: float,
        mask_share: float = 0.8,
        random_share: float = 0.1,
    ) -> None:
        self.key, self.mask_id = np.uint64(key), mask_id
        self.is_special = np.zeros(vocab_size, np.bool_)
        self.is_special[list(special_ids)] = True
        self.ordinary_ids = np.flatnonzero(~self.is_special).astype(np.int32)
        self.choose_below = _fraction(mlm_probability)
        self.mask_below, self.keep_from = _fraction(mask_share), _fraction(mask_share + random_share)

    def choose(self, ids: Ids, global_index: Indices) -> tuple[Indices, U64]:
        """The predicted tokens of (B, T) ids: flat positions (N,) and 64 random bits for each."""
        rows = mix(global_index.astype(np.uint64) * GOLDEN ^ self.key)
        columns = np.arange(1, ids.shape[1] + 1, dtype=np.uint64) * GOLDEN
        bits = mix(rows[:, None] + columns).ravel()
        positions = np.flatnonzero(bits >> _32 < self.choose_below)
        positions = positions[~self.is_special[ids.ravel()[positions]]]
        return positions, mix(bits[positions] ^ self.key)  # mixed again: the high bits are below the threshold

    def __call__(self, ids: Ids, global_index: Indices) -> Masked:
        """Mask the samples (B, T) that stand at these global indices (B,)."""
        positions, bits = self.choose(ids, global_index)
        action, draw = bits >> _32, bits & _LOW
        labels = ids.ravel()[positions]
        drawn = self.ordinary_ids[(draw * np.uint64(len(self.ordinary_ids)) >> _32).astype(np.int64)]
        replaced = np.where(
            action < self.mask_below, np.int32(self.mask_id), np.where(action < self.keep_from, drawn, labels)
        )
        input_ids = ids.copy()
        input_ids.ravel()[positions] = replaced
        return Masked(input_ids, positions, labels)
