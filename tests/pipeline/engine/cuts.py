"""Ranks without processes: parameters cut as ZeRO cuts them, and the layouts that each rank then sees."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.engine.layout import Layout, Matrix, Place, layouts_from, table_of

Parameters = dict[str, Tensor]
Cut = tuple[list[Tensor], list[Place]]  # a rank's masters and what they hold


def whole(parameters: Parameters) -> Cut:
    """Stage 0: each parameter is a master."""
    masters = list(parameters.values())
    return masters, [Place(name, 0, p.numel(), p, 0, 0) for name, p in parameters.items()]


def end_to_end(parameters: Parameters, ranks: int) -> list[Cut]:
    """Stages 1 and 2: equal ranges of all parameters laid end to end, the last one padded."""
    flat = torch.cat([p.flatten() for p in parameters.values()])
    size = -(-len(flat) // ranks)
    masters = torch.cat([flat, flat.new_zeros(ranks * size - len(flat))]).split(size)
    cuts = []
    for rank, master in enumerate(masters):
        places, first = [], 0
        for name, parameter in parameters.items():
            begin, end = max(first, rank * size), min(first + parameter.numel(), (rank + 1) * size)
            if begin < end:
                places.append(Place(name, begin - first, end - begin, master, begin - rank * size, 0))
            first += parameter.numel()
        cuts.append(([master], places))
    return cuts


def each_apart(parameters: Parameters, ranks: int) -> list[Cut]:
    """Stage 3: an equal range of every parameter, padded, laid end to end."""
    cuts = []
    for rank in range(ranks):
        parts, places, offset = [], [], 0
        for name, parameter in parameters.items():
            size = -(-parameter.numel() // ranks)
            part = parameter.flatten()[rank * size : (rank + 1) * size]
            parts.append(torch.cat([part, part.new_zeros(size - len(part))]))
            places.append((name, min(rank * size, parameter.numel()), len(part), offset))
            offset += size
        master = torch.cat(parts)
        cuts.append(([master], [Place(n, begin, length, master, at, 0) for n, begin, length, at in places if length]))
    return cuts


def layouts(matrices: Sequence[Matrix], cuts: Sequence[Cut]) -> list[list[Layout]]:
    """Each rank's layouts, as it would make them from what the others sent."""
    tables = [table_of(matrices, masters, places).tolist() for masters, places in cuts]
    return [layouts_from(matrices, len(cuts[0][0]), tables, rank) for rank in range(len(cuts))]
