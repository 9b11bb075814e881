"""Ranks that see different checkpoints, as machines do whose file systems or disks differ. The ranks are threads."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.checkpoints import agreement
from pipeline.checkpoints.agreement import agree
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.errors import RunError
from pipeline.files import MANIFEST
from tests.checkpoints import WEIGHTS, checkpoint, reseal
from tests.conftest import flip_byte

RANKS = 3


@pytest.fixture
def views(tmp_path: Path) -> list[RunFolder]:
    """The run's folder as each rank sees it."""
    first = RunFolder(tmp_path / "0")
    for step in (10, 20, 30):
        checkpoint(first, step)
    for rank in range(1, RANKS):
        shutil.copytree(first.path, tmp_path / str(rank))
    return [RunFolder(tmp_path / str(rank)) for rank in range(RANKS)]


this = threading.local()  # its `rank` is that of the thread


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier, told = threading.Barrier(RANKS), [0] * RANKS

    def extremes(number: int) -> tuple[int, int]:
        told[this.rank] = number
        barrier.wait()
        found = max(told), min(told)
        barrier.wait()
        return found

    monkeypatch.setattr(agreement, "extremes", extremes)
    monkeypatch.setattr(agreement.dist, "get_rank", lambda: this.rank)


def go_on(views: list[RunFolder]) -> list[int | str]:
    """The step that each rank goes on from, or why it does not."""

    def one(rank: int) -> int | str:
        this.rank = rank
        manifest, _ = views[rank].newest_sound()
        try:
            agreed = agree(views[rank], manifest)
        except RunError as error:
            return str(error)
        return agreed["step"] if agreed else 0

    with ThreadPoolExecutor(RANKS) as pool:
        return list(pool.map(one, range(RANKS)))


def test_the_same_view(views: list[RunFolder], capsys: pytest.CaptureFixture[str]) -> None:
    assert go_on(views) == [30, 30, 30]
    assert capsys.readouterr().err == ""


def test_no_checkpoint_anywhere(tmp_path: Path) -> None:
    assert go_on([RunFolder(tmp_path)] * RANKS) == [0, 0, 0]


def test_the_newest_that_is_sound_to_all(views: list[RunFolder], capsys: pytest.CaptureFixture[str]) -> None:
    """Rank 1 cannot read 30, and rank 2 neither 20: only 10 is left."""
    flip_byte(views[1].checkpoint(30) / WEIGHTS, -1)
    (views[2].checkpoint(20) / MANIFEST).unlink()
    assert go_on(views) == [10, 10, 10]
    assert capsys.readouterr().err.splitlines() == [
        f"kilobatch: passed over: {views[0].checkpoint(step)}: is sound to some ranks alone" for step in (30, 20)
    ]


def test_a_rank_that_sees_none(views: list[RunFolder]) -> None:
    """To begin anew would be to lose what the others see."""
    shutil.rmtree(views[1].checkpoints)
    assert go_on(views) == [
        f"{view.checkpoints}: a rank sees step 30, another no checkpoint; {agreement.SAME_FOLDER}" for view in views
    ]


def test_another_checkpoint_of_the_same_step(views: list[RunFolder]) -> None:
    reseal(views[2].checkpoint(30), consumed_samples=7)
    assert go_on(views) == [
        f"{view.checkpoints}: the ranks see different checkpoints of step 30; {agreement.SAME_FOLDER}" for view in views
    ]
