"""The step from which the next start goes on, as the supervisor sees it."""

import os
from pathlib import Path

import pytest

from launch import newest
from launch.newest import Newest
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.files import MANIFEST
from tests.checkpoints import WEIGHTS, checkpoint
from tests.conftest import flip_byte


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the checkpoints whose files were hashed."""
    verify, names = newest.verify_checkpoint, []

    def note(folder: Path) -> object:
        names.append(folder.name)
        return verify(folder)

    monkeypatch.setattr(newest, "verify_checkpoint", note)
    return names


def damage(folder: Path) -> None:
    """As time goes by: two writes within one tick of the file system's clock look alike."""
    path = folder / WEIGHTS
    flip_byte(path, -1)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_a_damaged_checkpoint_is_no_step_to_go_on_from(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    found = Newest(run)
    assert found.step() == 0
    for step in (5, 9):
        checkpoint(run, step)
    assert found.step() == 9
    damage(run.checkpoint(9))
    assert found.step() == 5
    (run.checkpoint(5) / MANIFEST).write_text("{")
    assert found.step() == 0


def test_a_checkpoint_is_hashed_once_while_it_stays_as_it_is(tmp_path: Path, hashed: list[str]) -> None:
    run = RunFolder(tmp_path)
    for step in (5, 9):
        checkpoint(run, step)
    found = Newest(run, 5)
    assert [found.step(), found.step()] == [9, 9]
    assert hashed == ["step-00000009"]
    damage(run.checkpoint(9))
    assert [found.step(), found.step()] == [5, 5]
    assert hashed == ["step-00000009"] * 3  # what is broken may be mended; the older one was verified before
    checkpoint(run, 12)
    assert found.step() == 12


def test_another_folder_under_the_run_s_name_is_no_beginning(tmp_path: Path) -> None:
    """As where it was deleted amid the run, or what is mounted there is away for a while."""
    run = RunFolder(tmp_path / "run")
    checkpoint(run, 5)
    found = Newest(run)
    run.path.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        found.step()
    run.path.mkdir()
    with pytest.raises(OSError, match="is not the folder in which this run began"):
        found.step()
    run.path.rmdir()
    (tmp_path / "away").rename(run.path)
    assert found.step() == 5
