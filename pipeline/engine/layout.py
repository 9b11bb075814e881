"""Which part of each whole matrix lies where in the master tensors that DeepSpeed hands to an optimizer.

Under ZeRO a rank keeps a range of a group's parameters laid end to end (stages 1, 2) or of every parameter (stage 3).
LAMB and Muon are defined on whole matrices: the ranks tell each other once what each of them keeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Matrix:
    """A weight of the published architecture: a parameter, or a third of the fused query, key and value."""

    parameter: str
    first: int  # its first element in the flattened parameter
    shape: torch.Size

    @property
    def numel(self) -> int:
        return self.shape.numel()


def matrices_of(shapes: Mapping[str, torch.Size]) -> list[Matrix]:
    """The matrices of parameters by name. Rows of `qkv.weight` are query, key, value: three layers in the papers."""
    found = []
    for name, shape in shapes.items():
        count = 3 if name.endswith("qkv.weight") else 1
        part = torch.Size([shape[0] // count, *shape[1:]])
        found += [Matrix(name, i * part.numel(), part) for i in range(count)]
    return found


@dataclass(frozen=True, eq=False)
class Place:
    """Elements `begin` … of a flattened parameter are the `length` elements `offset` … of a master tensor."""

    name: str
    begin: int
    length: int
    master: Tensor  # fp32, flat but at stage 0
    offset: int
    group: int  # of the optimizer

    def of(self, tensor: Tensor) -> Tensor:
        """The view (length,) of this place in a tensor laid out as the master is."""
        return tensor.detach().view(-1).narrow(0, self.offset, self.length)


@dataclass(frozen=True)
class Span:
    """Elements `begin` … `begin + length` of a flattened matrix; of length 0 where a rank keeps nothing of it."""

    begin: int
    length: int


@dataclass(frozen=True)
class Layout:
    """The matrices of one master tensor.

    Args:
        matrices: all that have a part in this master on some rank, in the same order on all ranks.
        spans: for each rank that shares them, what it keeps of each; of this one alone where every rank keeps all.
        rank: of this one in `spans`.
        offsets: for each matrix, where this rank's part begins in its master.
    """

    matrices: list[Matrix]
    spans: list[list[Span]]
    rank: int
    offsets: list[int]

    @property
    def sharded(self) -> bool:
        return len(self.spans) > 1

    def parts(self, flat: Tensor) -> list[Tensor]:
        """This rank's part of each matrix, one-dimensional views of a tensor laid out as the master is."""
        own = self.spans[self.rank]
        return [flat.view(-1).narrow(0, begin, span.length) for begin, span in zip(self.offsets, own, strict=True)]


def working_device() -> torch.device:
    """Where collectives and matrix products run, also when masters are offloaded to the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def layouts_of(matrices: Sequence[Matrix], masters: Sequence[Tensor], places: Sequence[Place]) -> list[Layout]:
    """The layout of each master, on all ranks together.

    Args:
        masters: what the optimizer updates, in the same order on all ranks; those that hold nothing but padding too.
        places: all that this rank keeps.
    """
    mine = table_of(matrices, masters, places)
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return layouts_from(matrices, len(masters), [mine.tolist()], 0)
    mine = mine.to(working_device())
    tables = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(tables, mine)
    return layouts_from(matrices, len(masters), [table.tolist() for table in tables], dist.get_rank())


def table_of(matrices: Sequence[Matrix], masters: Sequence[Tensor], places: Sequence[Place]) -> Tensor:
    """For each matrix what one rank keeps of it, (M, 4) int64: number of the master, begin, length, offset."""
    number = {id(master): i for i, master in enumerate(masters)}
    by_parameter = {place.name: place for place in places}
    table = torch.zeros(len(matrices), 4, dtype=torch.int64)
    for i, matrix in enumerate(matrices):
        if (place := by_parameter.get(matrix.parameter)) is None:
            continue
        begin = max(place.begin, matrix.first)
        end = min(place.begin + place.length, matrix.first + matrix.numel)
        if begin < end:
            offset = place.offset + begin - place.begin
            table[i] = torch.tensor([number[id(place.master)], begin - matrix.first, end - begin, offset])
    return table


def layouts_from(matrices: Sequence[Matrix], masters: int, tables: list[list[list[int]]], rank: int) -> list[Layout]:
    """The layout of each master as a rank sees it, from all ranks' tables."""
    members: list[list[int]] = [[] for _ in range(masters)]
    for i, matrix in enumerate(matrices):
        kept = [table[i] for table in tables if table[i][2]]
        assert sum(row[2] for row in kept) in (matrix.numel, len(tables) * matrix.numel), matrix
        members[kept[0][0]].append(i)
    found = []
    for chosen in members:
        spans = [[Span(table[i][1], table[i][2]) for i in chosen] for table in tables]
        if all(span.length == matrices[i].numel for row in spans for i, span in zip(chosen, row, strict=True)):
            spans = [spans[rank]]
        offsets = [tables[rank][i][3] for i in chosen]
        found.append(Layout([matrices[i] for i in chosen], spans, rank if len(spans) > 1 else 0, offsets))
    return found
