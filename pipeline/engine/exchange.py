"""Whole matrices from the parts that ranks keep: each is gathered by one rank, changed there, and sent back in parts.

Two all-to-alls of sizes known beforehand; a part that lies with its matrix's owner is not sent.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.engine.layout import Layout, Matrix, working_device


def owners_of(layout: Layout, cost: Callable[[Matrix], float]) -> list[int]:
    """The rank that works on each matrix: dearest first, the least loaded of those that keep much of it.

    Much is half of what the one that keeps most has: at stages 1 and 2 most matrices lie with one rank and stay there,
    at stage 3 every rank keeps an equal part and the load alone decides.
    """
    load = [0.0] * len(layout.spans)
    owners = [0] * len(layout.matrices)
    for i in sorted(range(len(owners)), key=lambda i: -cost(layout.matrices[i])):
        kept = [spans[i].length for spans in layout.spans]
        candidates = [rank for rank, length in enumerate(kept) if 2 * length >= max(kept)]
        owners[i] = min(candidates, key=lambda rank: (load[rank], -kept[rank]))
        load[owners[i]] += cost(layout.matrices[i])
    return owners


class Exchange:
    """The exchange of the matrices of one master tensor.

    Args:
        owners: the rank in the layout that works on each matrix. dtype: of what is sent and worked on.
    """

    def __init__(self, layout: Layout, owners: list[int], dtype: torch.dtype) -> None:
        self.layout, self.owners, self.dtype = layout, owners, dtype
        ranks, own = range(len(layout.spans)), layout.spans[layout.rank]
        self.mine = [i for i, owner in enumerate(owners) if owner == layout.rank]
        self.order = sorted(range(len(owners)), key=owners.__getitem__)  # parts go out by owner, then by matrix
        self.lengths = [own[i].length for i in self.order]
        self.sent = [sum(span.length for span, owner in zip(own, owners, strict=True) if owner == r) for r in ranks]
        self.received = [sum(layout.spans[rank][i].length for i in self.mine) for rank in ranks]
        arriving = [layout.spans[rank][i] for rank in ranks for i in self.mine]  # by sender, then by matrix
        self.cuts = [span.length for span in arriving]
        self.pieces = [  # of each matrix of mine, in its own order: which of those that arrive
            sorted(range(j, len(arriving), len(self.mine)), key=lambda k: (arriving[k].begin, arriving[k].length))
            for j in range(len(self.mine))
        ]

    def moved(self) -> int:
        """Elements that leave their rank, over all ranks, one way; as many come back."""
        return sum(
            span.length
            for rank, spans in enumerate(self.layout.spans)
            for span, owner in zip(spans, self.owners, strict=True)
            if rank != owner
        )

    def apply(self, flat: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """`change` of every whole matrix in its shape, laid out as `flat`; zero where `flat` holds padding."""
        return self._return([change(matrix) for matrix in self._whole(flat.to(working_device(), self.dtype))], flat)

    def _whole(self, flat: Tensor) -> list[Tensor]:
        parts = self.layout.parts(flat)
        arrived = self._send(torch.cat([parts[i] for i in self.order]), self.sent, self.received)
        pieces = torch.split(arrived, self.cuts)
        return [
            torch.cat([pieces[k] for k in chosen]).view(self.layout.matrices[i].shape)
            for i, chosen in zip(self.mine, self.pieces, strict=True)
        ]

    def _return(self, changed: list[Tensor], flat: Tensor) -> Tensor:
        pieces = [flat.new_empty(0)] * len(self.cuts)
        for matrix, chosen in zip(changed, self.pieces, strict=True):
            for k, piece in zip(chosen, torch.split(matrix.flatten(), [self.cuts[k] for k in chosen]), strict=True):
                pieces[k] = piece
        leaving = torch.cat([torch.empty(0, dtype=self.dtype, device=working_device()), *pieces])
        result = torch.zeros_like(flat)
        places = self.layout.parts(result)
        arrived = torch.split(self._send(leaving, self.received, self.sent), self.lengths)
        for i, part in zip(self.order, arrived, strict=True):
            places[i].copy_(part)
        return result

    def _send(self, parts: Tensor, sent: list[int], received: list[int]) -> Tensor:
        if not self.layout.sharded:
            return parts
        out = parts.new_empty(sum(received))
        dist.all_to_all_single(out, parts, received, sent)
        return out
