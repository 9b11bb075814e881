"""kill −9 of a rank, anywhere: started again, the run ends with the bytes of one that was never interrupted (law 4)."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.checkpoints.run_folder import RunFolder
from tests.chaos import forked
from tests.chaos.calls import Watch
from tests.chaos.runs import EVERY, STEPS, end_of, logged, resolved
from tests.tiny import tiny_corpus

RANKS = 2
SAVE = STEPS - EVERY  # the save that is looked at: checkpoints are before it, it prunes one, and steps follow


@dataclass(frozen=True)
class Point:
    """Before this call a rank dies, the n-th of its kind."""

    rank: int
    call: str
    number: int

    @property
    def saving(self) -> bool:
        return not re.match("forward|update", self.call)


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted, and every call of each of its ranks."""

    folder: Path
    points: list[Point]

    def in_save(self) -> list[Point]:
        """Calls from the first of one save to the last of its pruning, on all ranks."""
        found = []
        for rank in range(RANKS):
            mine = [point for point in self.points if point.rank == rank and point.saving]
            names = [f"{SAVE:08d}", f"{SAVE + EVERY:08d}"]
            begin, end = [next(i for i, point in enumerate(mine) if name in point.call) for name in names]
            found += mine[begin:end]
        return found


def points_of(rank: int, calls: list[str]) -> Iterator[Point]:
    seen = Counter[str]()
    for call in calls:
        yield Point(rank, call, seen[call])
        seen[call] += 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("kill")
    config = resolved(tiny_corpus(folder / "corpus"), folder / "whole")
    watches = {rank: Watch(folder / "whole", folder / f"calls-{rank}") for rank in range(RANKS)}
    ended = forked.start(config, RANKS, watches).finish()
    assert ended.codes == [0] * RANKS, ended
    calls = [(folder / f"calls-{rank}").read_text().splitlines() for rank in range(RANKS)]
    return Whole(folder, [point for rank in range(RANKS) for point in points_of(rank, calls[rank])])


def run_killed_at(whole: Whole, points: list[Point]) -> Iterator[str]:
    """A run whose n-th start is killed at the n-th point, then goes to the end; what went wrong."""
    run = RunFolder(whole.folder / f"killed-{len(list(whole.folder.iterdir()))}")
    config = resolved(whole.folder / "corpus", run.path)
    for point in points:
        watch = Watch(run.path, whole.folder / f"{run.path.name}.calls", re.escape(point.call), point.number)
        ended = forked.start(config, RANKS, {point.rank: watch}).finish()
        if ended.codes[point.rank] != -9 and len(points) == 1:  # a later start may be at its end before
            yield f"not killed there: {ended}"
    ended = forked.start(config, RANKS).finish()
    if ended.codes != [0] * RANKS:
        yield f"not to be gone on with: {ended}"
    elif end_of(run.path) != end_of(whole.folder / "whole"):
        yield "another end"
    elif logged(run.path) != logged(whole.folder / "whole"):
        yield "other metrics"
    left = [entry.name for entry in run.checkpoints.iterdir() if not re.fullmatch(r"step-\d{8}", entry.name)]
    if left:
        yield f"left behind: {left}"


def killed_once_at_each(whole: Whole, points: list[Point]) -> None:
    wrong = [f"{point}: {what}" for point in points for what in run_killed_at(whole, [point])]
    assert not wrong, f"{len(wrong)} of {len(points)}:\n" + "\n".join(wrong)


def test_a_rank_killed_amid_a_save(whole: Whole) -> None:
    """Rank 1 half through its tensors; rank 0 before the manifest has its name, and before the folder has."""
    inside = whole.in_save()
    renames = [point for point in inside if point.rank == 0 and point.call.startswith("rename")]
    tensors = [point for point in inside if point.rank == 1 and point.call.startswith("tensors")]
    killed_once_at_each(whole, [tensors[-1], *renames[:2]])


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
    # which rank makes the folder of the first save is a race
    saving = [point for point in whole.points if point.saving and not point.call.startswith("mkdir")]
    passes = [point for point in whole.points if not point.saving]
    killed_once_at_each(whole, draw.sample(saving, 10) + draw.sample(passes, 10))


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_every_start(whole: Whole, seed: int) -> None:
    """Eight starts, each killed at a call of its own, also in the save that the one before was killed in."""
    wrong = list(run_killed_at(whole, random.Random(seed).choices(whole.points, k=8)))
    assert not wrong, "\n".join(wrong)
