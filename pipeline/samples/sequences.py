"""Which tokens of a micro-batch belong together: padding is left out of all computation, and each sequence is its own.

A micro-batch comes as (B, T) ids with padding at the ends of rows. The model computes on its S tokens alone, one
sequence behind the other, which attend to their own sequence and count their positions from its beginning. A sequence
is a row without its padding, or, where documents are apart, one document's part of a row.

Shape suffixes: B rows, T tokens of a row, S tokens of all sequences, C sequences.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """The sequences of a micro-batch. What the device would have to be asked for is known on the host.

    A compiled layer reads no `lengths`: each micro-batch has others, and would be another program.
    """

    lengths: tuple[int, ...]  # tokens of each, in order
    tokens: int  # S, all of them
    longest: int
    starts: Tensor  # (C + 1,) int32, where each begins among the S tokens, and S (FlashAttention's `cu_seqlens`)
    kept: Tensor | None = None  # (S,) int64, ascending flat indices of the tokens into B·T; None: nothing is padded

    @classmethod
    def of(cls, lengths: npt.NDArray[np.int64], kept: npt.NDArray[np.int64] | None = None) -> "Sequences":
        starts = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
        cells = None if kept is None else torch.from_numpy(kept)
        return cls(tuple(lengths.tolist()), int(lengths.sum()), int(lengths.max()), torch.from_numpy(starts), cells)

    @classmethod
    def rows(cls, batch: int, length: int) -> "Sequences":
        """Of a micro-batch without padding."""
        return cls.of(np.full(batch, length))

    @classmethod
    def in_rows(cls, is_token_BT: npt.NDArray[np.bool_], closes_BT: npt.NDArray[np.bool_] | None = None) -> "Sequences":
        """Of rows with padding at their ends.

        Args:
            is_token_BT: False on padding.
            closes_BT: True on the last token of a document, if documents are apart; the last token of a row closes too.
        """
        lengths = is_token_BT.sum(1)
        kept = None if is_token_BT.all() else is_token_BT.reshape(-1).nonzero()[0]
        if closes_BT is not None:
            ends = closes_BT[is_token_BT]
            ends[lengths.cumsum() - 1] = True
            lengths = np.diff(ends.nonzero()[0] + 1, prepend=0)
        return cls.of(lengths, kept)

    def to(self, device: torch.device) -> "Sequences":
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> "Sequences":
        """The same with every tensor changed: moved, or pinned."""
        return replace(self, starts=change(self.starts), kept=None if self.kept is None else change(self.kept))

    def pack(self, ids_BT: Tensor, positions_N: Tensor) -> tuple[Tensor, Tensor]:
        """The ids of the tokens (S,), and flat indices into B·T, none of them of padding, as indices into S."""
        if self.kept is None:
            return ids_BT.flatten(), positions_N
        return ids_BT.flatten().index_select(0, self.kept), torch.searchsorted(self.kept, positions_N.contiguous())

    def places(self) -> Tensor:
        """Each token's place in its sequence, from 0, (S,)."""
        begins = torch.repeat_interleave(self.starts[:-1], self.starts.diff(), output_size=self.tokens)
        return torch.arange(self.tokens, device=begins.device, dtype=begins.dtype) - begins

    def cells(self) -> Tensor:
        """Where each token stands when the sequences are rows of the longest one's length, (S,) flat int64."""
        rows = torch.repeat_interleave(self.starts.diff(), output_size=self.tokens)
        return (rows * self.longest + self.places()).long()
