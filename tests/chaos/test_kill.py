"""kill −9 of a rank, anywhere: started again, the run ends with the bytes of one that was never interrupted (law 4)."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.run_folder import RunFolder
from tests.chaos import forked
from tests.chaos.calls import Watch
from tests.chaos.runs import EVERY, STEPS, end_of, logged, resolved
from tests.tiny import tiny_corpus

RANKS = 2
SAVE = STEPS - EVERY  # the save that is looked at: checkpoints are before it, it prunes one, and steps follow


@dataclass(frozen=True)
class Point:
    """Before the call of this number a rank dies; what the call would have been."""

    rank: int
    number: int
    call: str


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted, and every call of each of its ranks."""

    folder: Path
    points: list[Point]

    def in_save(self) -> list[Point]:
        """Calls from the first to the last of one save, its pruning with it, on all ranks."""
        found = []
        for rank in range(RANKS):
            mine = [point for point in self.points if point.rank == rank]
            saves = [point.number for point in mine if f"{SAVE:08d}" in point.call]
            behind = (p.number for p in mine if p.number > saves[-1] and p.call.startswith("forward"))
            found += mine[saves[0] : next(behind, len(mine))]  # a slow disk may have it done at the end of the run
        return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("kill")
    config = resolved(tiny_corpus(folder / "corpus"), folder / "whole")
    watches = {rank: Watch(folder / "whole", folder / f"calls-{rank}") for rank in range(RANKS)}
    ended = forked.start(config, RANKS, watches).finish()
    assert ended.codes == [0] * RANKS, ended
    points = [
        Point(rank, number, call)
        for rank in range(RANKS)
        for number, call in enumerate((folder / f"calls-{rank}").read_text().splitlines())
    ]
    return Whole(folder, points)


def run_killed_at(whole: Whole, points: Iterator[Point]) -> list[str]:
    """A run whose n-th start is killed at the n-th point, until there are no more or it ends; what went wrong."""
    first = next(points)
    name = f"killed-{first.rank}-{first.number}"
    config = resolved(whole.folder / "corpus", whole.folder / name)
    run = RunFolder(config.parent)
    point: Point | None = first
    while point:
        watch = Watch(run.path, whole.folder / f"{name}.calls", point.number)
        ended = forked.start(config, RANKS, {point.rank: watch}).finish()
        if ended.codes == [0] * RANKS:
            break  # it ended before the call
        if ended.codes[point.rank] != -9:
            return [f"{point}: not killed there: {ended}"]
        point = next(points, None)
    ended = forked.start(config, RANKS).finish()
    if ended.codes != [0] * RANKS:
        return [f"{first}: {ended}"]
    wrong = [f"{first}: another end"] * (end_of(run.path) != end_of(whole.folder / "whole"))
    wrong += [f"{first}: other metrics"] * (logged(run.path) != logged(whole.folder / "whole"))
    left = [entry.name for entry in run.checkpoints.iterdir() if not re.fullmatch(r"step-\d{8}", entry.name)]
    return wrong + [f"{first}: left {left}"] * bool(left)


def killed_once_at_each(whole: Whole, points: list[Point]) -> None:
    wrong = [line for point in points for line in run_killed_at(whole, iter([point]))]
    assert not wrong, f"{len(wrong)} of {len(points)}:\n" + "\n".join(wrong)


def test_a_rank_killed_amid_a_save(whole: Whole) -> None:
    """Rank 1 half through its tensors; rank 0 before the manifest has its name, and before the folder has."""
    inside = whole.in_save()
    renames = [point for point in inside if point.rank == 0 and point.call.startswith("rename")]
    tensors = [point for point in inside if point.rank == 1 and point.call.startswith("tensors")][-1:]
    killed_once_at_each(whole, [*tensors, *renames[:2]])


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_rank_killed_at_every_call_of_a_save(whole: Whole) -> None:
    inside = whole.in_save()
    assert len(inside) >= 8
    killed_once_at_each(whole, inside)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_rank_killed_at_seeded_points(whole: Whole) -> None:
    """20, at least 8 of them in saves: between each two calls of any save, before passes, before updates."""
    draw = random.Random(6)
    passes = [point for point in whole.points if re.match("forward|update", point.call)]
    saving = [point for point in whole.points if point not in passes]
    killed_once_at_each(whole, draw.sample(saving, 10) + draw.sample(passes, 10))


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_every_start(whole: Whole, seed: int) -> None:
    """Eight starts, each killed at a call of its own, also in the save that the one before was killed in."""
    draw = random.Random(seed)
    wrong = run_killed_at(whole, iter(draw.choices(whole.points, k=8)))
    assert not wrong, "\n".join(wrong)
