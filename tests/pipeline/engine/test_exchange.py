"""Whole matrices from parts: whatever way they are cut over ranks, each is changed whole, once, and comes back."""

import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.engine.exchange import Exchange, owners_of
from pipeline.engine.layout import Layout, Matrix, matrices_of
from tests.pipeline.engine.cuts import Cut, Parameters, each_apart, end_to_end, layouts, whole

SIDES = st.integers(1, 7)
SHAPES = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=6)
CUTS = st.sampled_from([end_to_end, each_apart])


class Mail:
    """An all-to-all between threads."""

    def __init__(self, ranks: int) -> None:
        self.barrier, self.parcels = threading.Barrier(ranks, timeout=60), [[torch.empty(0)] * ranks] * ranks

    def exchange(self, rank: int, parts: Tensor, sent: list[int]) -> Tensor:
        self.parcels[rank] = list(torch.split(parts, sent))
        self.barrier.wait()
        found = torch.cat([parcels[rank] for parcels in self.parcels])
        self.barrier.wait()
        return found


class Mailed(Exchange):
    def __init__(self, layout: Layout, owners: list[int], mail: Mail) -> None:
        super().__init__(layout, owners, torch.float32)
        self.mail = mail

    def _send(self, parts: Tensor, sent: list[int], received: list[int]) -> Tensor:
        assert len(parts) == sum(sent)
        found = self.mail.exchange(self.layout.rank, parts, sent)
        assert len(found) == sum(received)
        return found


def changed_by_ranks(cuts: list[Cut], matrices: list[Matrix], change: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """What `apply` returns on every rank."""
    found, mail = [torch.empty(0)] * len(cuts), Mail(len(cuts))

    def work(rank: int, layout: Layout) -> None:
        exchange = Mailed(layout, owners_of(layout, lambda matrix: matrix.numel), mail)
        found[rank] = exchange.apply(cuts[rank][0][0], change)

    threads = [threading.Thread(target=work, args=(rank, row[0])) for rank, row in enumerate(layouts(matrices, cuts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def parameters_of(shapes: list[tuple[int, int]]) -> Parameters:
    generator = torch.Generator().manual_seed(0)
    names = [f"layers.{i}.weight" for i in range(len(shapes))]
    found = {name: torch.rand(shape, generator=generator) for name, shape in zip(names, shapes, strict=True)}
    return {**found, "layers.0.attention.qkv.weight": torch.rand(9, 2, generator=generator)}


@given(SHAPES, CUTS, st.integers(2, 5))
def test_every_matrix_is_changed_whole(
    shapes: list[tuple[int, int]], cut: Callable[[Parameters, int], list[Cut]], ranks: int
) -> None:
    parameters = parameters_of(shapes)
    matrices = matrices_of({name: p.shape for name, p in parameters.items()})
    seen: list[tuple[int, ...]] = []

    def change(matrix: Tensor) -> Tensor:
        seen.append(tuple(matrix.shape))
        return 2 * matrix + matrix.sum() * torch.arange(matrix.numel()).view(matrix.shape)

    cuts = cut(parameters, ranks)
    found = changed_by_ranks(cuts, matrices, change)
    assert sorted(seen) == sorted([*shapes, (3, 2), (3, 2), (3, 2)])  # once each; query, key and value apart
    thirds = parameters["layers.0.attention.qkv.weight"].split(3)
    expected = {name: change(parameter) for name, parameter in parameters.items()}
    expected["layers.0.attention.qkv.weight"] = torch.cat([change(third) for third in thirds])
    for (masters, places), result in zip(cuts, found, strict=True):
        padding = torch.ones_like(masters[0], dtype=torch.bool)
        for place in places:
            assert torch.equal(place.of(result), expected[place.name].flatten()[place.begin :][: place.length])
            place.of(padding).zero_()
        assert not result[padding].any()


@given(SHAPES, st.integers(2, 5))
def test_where_every_rank_keeps_all_nothing_is_exchanged(shapes: list[tuple[int, int]], ranks: int) -> None:
    parameters = parameters_of(shapes)
    matrices = matrices_of({name: p.shape for name, p in parameters.items()})
    for row in layouts(matrices, [whole(parameters)] * ranks):
        assert not any(layout.sharded for layout in row)
        assert sorted(matrix for layout in row for matrix in map(repr, layout.matrices)) == sorted(map(repr, matrices))
        for layout, parameter in zip(row, parameters.values(), strict=True):
            exchange = Exchange(layout, owners_of(layout, lambda matrix: matrix.numel), torch.float32)
            assert exchange.moved() == 0
            assert torch.equal(exchange.apply(parameter, lambda matrix: -matrix), -parameter)


LAYER = {"qkv.weight": (2304, 768), "output.weight": (768, 768), "up.weight": (3072, 768), "down.weight": (768, 3072)}
BASE = {f"layers.{i}.{j}": torch.empty(shape, dtype=torch.uint8) for i in range(12) for j, shape in LAYER.items()}


@pytest.mark.parametrize(("ranks", "end_to_end_share", "apart_share"), [
    (2, 0, 0.4167),
    (8, 0.0556, 0.8177),
    (16, 0.0833, 0.9071),
])  # fmt: skip
def test_what_is_moved_at_roberta_base(ranks: int, end_to_end_share: float, apart_share: float) -> None:
    """The shares that the documentation gives. End to end most matrices lie with one rank; work is balanced."""
    matrices = matrices_of({name: p.shape for name, p in BASE.items()})
    numel = sum(matrix.numel for matrix in matrices)
    for cut, expected in ((end_to_end, end_to_end_share), (each_apart, apart_share)):
        layout = layouts(matrices, cut(BASE, ranks))[0][0]
        owners = owners_of(layout, lambda matrix: matrix.numel)
        assert Exchange(layout, owners, torch.float32).moved() / numel == pytest.approx(expected, abs=1e-4)
        load = [sum(m.numel for m, owner in zip(matrices, owners, strict=True) if owner == r) for r in range(ranks)]
        assert max(load) <= numel / ranks + max(matrix.numel for matrix in matrices)
