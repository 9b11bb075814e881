"""Pruning: what stays is sound, and a crash at any call leaves the newest sound checkpoint."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from pipeline.checkpoints import inspect_checkpoints
from pipeline.checkpoints.prune import choose
from pipeline.checkpoints.retention import delete
from pipeline.checkpoints.run_folder import RunFolder, read_checkpoint_manifest, verify_checkpoint
from pipeline.errors import DigestError, InputError
from pipeline.files import MANIFEST, TEMPORARY
from pipeline.pretrain_config import CheckpointConfig
from pipeline.samples.position import Position
from pipeline.trainer import Trainer
from tests.checkpoints import WEIGHTS, checkpoint
from tests.conftest import flip_byte

SETTINGS = {"every_steps": 10, "keep_last": 2, "keep_every": 40}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    for step in range(10, 90, 10):
        checkpoint(folder, step, config={"checkpoint": SETTINGS})
    return folder


def prune(run: RunFolder, last: int | None = None, every: int | None = None, broken: bool = False) -> list[int]:
    """The steps that are left."""
    choice = choose(run, last, every, broken)
    delete(choice.doomed)
    assert set(choice.kept) <= set(run.steps())
    return run.steps()


def test_the_runs_own_settings_where_none_are_given(run: RunFolder) -> None:
    assert prune(run) == [40, 70, 80]


def test_settings_that_are_given(run: RunFolder) -> None:
    assert prune(run, last=3) == [40, 60, 70, 80]
    assert prune(run, last=1, every=60) == [60, 80]
    assert prune(run, last=9, every=1) == [60, 80]


def test_damaged_ones_do_not_count(run: RunFolder) -> None:
    """80 and 60 are damaged: 70 and 50 are the last two, and what is not sound stays unless it is asked for."""
    for step in (60, 80):
        flip_byte(run.checkpoint(step) / WEIGHTS, -1)
    (run.checkpoints / "broken-step-00000099").mkdir()
    choice = choose(run, None, None, False)
    assert choice.kept == [40, 50, 70]
    assert [str(run.checkpoint(step)) in str(why) for step, why in zip((80, 60), choice.unsound, strict=True)] == [
        True,
        True,
    ]
    assert prune(run) == [40, 50, 60, 70, 80]
    assert (run.checkpoints / "broken-step-00000099").is_dir()
    assert prune(run, broken=True) == [40, 50, 70]
    assert not (run.checkpoints / "broken-step-00000099").exists()


def test_the_newest_sound_one_stays_whatever_is_asked_for(run: RunFolder) -> None:
    for step in range(30, 90, 10):
        (run.checkpoint(step) / MANIFEST).unlink()
    assert prune(run, last=1, every=80, broken=True) == [20]
    assert verify_checkpoint(run.checkpoint(20))["step"] == 20


def test_with_none_sound_nothing_goes(run: RunFolder) -> None:
    for step in run.steps():
        flip_byte(run.checkpoint(step) / WEIGHTS, -1)
    with pytest.raises(DigestError, match="no checkpoint is sound"):
        choose(run, 1, None, True)
    assert len(run.steps()) == 8
    with pytest.raises(InputError, match="no checkpoints"):
        choose(RunFolder(run.path / "other"), 1, None, True)


def test_the_one_of_a_roll_back_stays_and_is_sound(tmp_path: Path) -> None:
    """25 and 27 were saved by stops; 20, where a roll-back would go, is damaged: 10 then."""
    run = RunFolder(tmp_path)
    for step in (10, 20, 25, 27):
        checkpoint(run, step, config={"checkpoint": {"every_steps": 10, "keep_last": 1}})
    flip_byte(run.checkpoint(20) / WEIGHTS, -1)
    assert prune(run, broken=True) == [10, 27]


def test_what_a_killed_command_left_goes_too(run: RunFolder) -> None:
    left = run.checkpoints / f"{TEMPORARY}0-step-00000001"
    checkpoint(run, 1).rename(left)
    (run.checkpoints / f"{TEMPORARY}link").symlink_to(run.checkpoint(80))
    assert prune(run) == [40, 70, 80]
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [f"step-{step:08d}" for step in (40, 70, 80)]


class Crash(BaseException):
    """As a kill: nothing that follows is run, and nothing caught."""


class Calls:
    """Counts what is asked of folders, and crashes before the call after the `last`."""

    def __init__(self) -> None:
        self.made, self.last = 0, 10**9

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            if self.made >= self.last:
                raise Crash
            self.made += 1
            return call(*arguments, **options)

        return count

    def restart(self, last: int = 10**9) -> None:
        self.made, self.last = 0, last


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    counter = Calls()
    for name in ("rename", "unlink", "rmdir", "fsync", "scandir", "listdir"):
        monkeypatch.setattr(os, name, counter.counted(getattr(os, name)))
    yield counter
    counter.restart()


@pytest.mark.parametrize("by", ["hand", "the run"])
def test_a_crash_at_any_call_leaves_the_newest_sound_one(run: RunFolder, calls: Calls, tmp_path: Path, by: str) -> None:
    for step in (50, 80):
        flip_byte(run.checkpoint(step) / WEIGHTS, -1)
    before = tmp_path / "before"
    shutil.copytree(run.path, before)

    def once() -> list[int]:
        if by == "hand":
            return prune(run, last=1, every=80, broken=True)
        run.prune(CheckpointConfig(every_steps=10, keep_last=3))  # which does not know what is damaged
        return run.steps()

    calls.restart()
    end, count = once(), calls.made
    assert end == ([70] if by == "hand" else [60, 70, 80])
    for last in random.Random(by).sample(range(count), 25):
        calls.restart()
        shutil.rmtree(run.path)
        shutil.copytree(before, run.path)
        calls.restart(last)
        with pytest.raises(Crash):
            once()
        calls.restart()
        for step in run.steps():  # each is whole under its name, but for those that were damaged before
            assert step in (50, 80) or verify_checkpoint(run.checkpoint(step))
        manifest, _ = run.newest_sound()
        assert manifest is not None
        assert manifest["step"] == 70
        assert once() == end  # the next time finishes it


def test_a_run_goes_on_where_an_old_checkpoint_cannot_be_deleted(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of it that another machine reads, say, on NFS."""

    def busy(path: Path) -> None:
        raise OSError(16, "Device or resource busy", str(path / WEIGHTS))

    monkeypatch.setattr("pipeline.checkpoints.retention.remove", busy)
    settings = SimpleNamespace(checkpoint=CheckpointConfig(every_steps=10, keep_last=1))
    rank = cast(Trainer, SimpleNamespace(run=run, config=settings))
    Trainer._prune(rank, Position(80, skipped_in_a_row=1))
    assert len(run.steps()) == 8
    Trainer._prune(rank, Position(80))
    assert run.steps() == [80]
    said = capsys.readouterr().err
    assert said.startswith("kilobatch: not deleted: ")
    assert said.endswith(f"-step-00000010/{WEIGHTS}: Device or resource busy\n")


@pytest.mark.parametrize("read", [False, True])
def test_what_a_run_deletes_while_it_is_listed_is_not_listed(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, read: bool
) -> None:
    """Neither is it an error, however far the look at it has come."""

    def reads(folder: Path) -> Any:
        manifest = read_checkpoint_manifest(folder) if read else None
        if folder == run.checkpoint(50):
            delete([folder])
        return manifest or read_checkpoint_manifest(folder)

    monkeypatch.setattr(inspect_checkpoints, "read_checkpoint_manifest", reads)
    console = Console(file=StringIO(), width=300)
    assert inspect_checkpoints.print_checkpoints(run, console) == []
    printed = cast(StringIO, console.file).getvalue()
    assert [step for step in range(10, 90, 10) if str(run.checkpoint(step)) in printed] == [10, 20, 30, 40, 60, 70, 80]
