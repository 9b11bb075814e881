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
from pipeline.samples.order import Indices

Ids = npt.NDArray[np.int32]

_32 = np.uint64(32)
_LOW_16, _LOW_32 = np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)


class Masked(NamedTuple):
    """A masked micro-batch."""

    input_ids: Ids  # (B, T), the array given, replaced where chosen
    positions: Indices  # (N,) flat indices into B·T of the predicted tokens, ascending
    labels: Ids  # (N,) the original ids there


def _below(probability: float, bits: int) -> np.uint64:
    """The threshold under which a uniform number of so many bits falls with this probability."""
    return np.uint64(min(round(probability * 2**bits), 2**64 - 1))


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
        self.choose_below = _below(mlm_probability, 64)
        self.mask_below, self.keep_from = _below(mask_share, 16), _below(mask_share + random_share, 16)
        self.columns = np.zeros(0, np.uint64)

    def choose(self, ids: Ids, global_index: Indices) -> tuple[Indices, Ids, U64]:
        """The predicted tokens of (B, T) ids: flat positions, labels and random bits, each (N,).

        The lower 48 of the bits are uniform and free to use: the choice itself looks at the order of magnitude.
        """
        if len(self.columns) != ids.shape[1]:
            self.columns = np.arange(1, ids.shape[1] + 1, dtype=np.uint64) * GOLDEN
        rows = mix(global_index.astype(np.uint64) * GOLDEN ^ self.key)
        bits = mix(np.add.outer(rows, self.columns).reshape(-1))
        (positions,) = (bits < self.choose_below).nonzero()
        labels = ids.reshape(-1)[positions]
        if (special := self.is_special[labels]).any():
            positions, labels = positions[~special], labels[~special]
        return positions, labels, bits[positions]

    def __call__(self, ids: Ids, global_index: Indices) -> Masked:
        """Mask the samples (B, T) that stand at these global indices (B,), in place."""
        positions, labels, bits = self.choose(ids, global_index)
        action = bits >> _32 & _LOW_16
        draw = (bits & _LOW_32) * np.uint64(len(self.ordinary_ids)) >> _32
        replaced = np.where(action < self.keep_from, self.ordinary_ids[draw.view(np.int64)], labels)
        replaced[action < self.mask_below] = self.mask_id
        assert ids.flags.c_contiguous  # else reshape copies, and nothing is masked
        ids.reshape(-1)[positions] = replaced
        return Masked(ids, positions, labels)
