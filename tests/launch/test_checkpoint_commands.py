"""`kilobatch checkpoint list`, `verify` and `prune`, as a user meets them."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import checkpoint_commands, cli
from launch.local import locked
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.files import MANIFEST
from tests.checkpoints import WEIGHTS, checkpoint
from tests.conftest import flip_byte

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`kilobatch checkpoint …`: its exit code, and what it wrote to stdout and stderr."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kilobatch", "checkpoint", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Of five checkpoints, the newest damaged."""
    folder = RunFolder(tmp_path / "run")
    for step in (10, 20, 25, 30, 40):
        checkpoint(folder, step)
    flip_byte(folder.checkpoint(40) / WEIGHTS, -1)
    return folder


@pytest.mark.parametrize("name", ["list", "verify", "prune"])
def test_without_a_run(command: Command, tmp_path: Path, name: str) -> None:
    code, _, said = command(name, tmp_path / "nowhere")
    assert (code, said) == (2, f"kilobatch: {tmp_path}/nowhere: no such folder; expected that of a run\n")
    code, _, said = command(name, tmp_path)
    assert (code, said) == (2, f"kilobatch: {tmp_path}/checkpoints: no checkpoints\n")


@pytest.mark.parametrize("name", ["list", "verify"])
def test_damage_is_told_of_once(command: Command, tmp_path: Path, name: str) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2):
        checkpoint(run, step)
    (run.checkpoint(1) / MANIFEST).unlink()
    (run.checkpoint(2) / MANIFEST).write_text("{")
    code, _, said = command(name, tmp_path)
    assert code == 3
    places = [line.split(":")[1].strip() for line in said.splitlines()]
    assert places == [str(run.checkpoint(1)), str(run.checkpoint(2) / MANIFEST)]


def test_list_shows_size_age_and_ranks(command: Command, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    hours_ago = time.time() - 3 * 3600
    for step, ranks in ((1000, 1), (2000, 2)):
        os.utime(checkpoint(run, step, world_size=ranks) / MANIFEST, (hours_ago, hours_ago))
    checkpoint(run, 3000).rename(run.checkpoints / "broken-step-00003000")
    code, shown, said = command("list", tmp_path)
    assert (code, said) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
    assert rows == [
        [str(run.checkpoint(1000)), "1,000", "8,000", "0.0 MB", "3.0 h", "1"],
        [str(run.checkpoint(2000)), "2,000", "16,000", "0.0 MB", "3.0 h", "2"],
    ]
    assert shown.splitlines()[-1] == f"{run.checkpoints / 'broken-step-00003000'}: set aside, 0.0 MB"


def test_verify_says_which_are_sound(command: Command, run: RunFolder) -> None:
    code, shown, said = command("verify", run.path)
    assert code == 3
    assert shown.splitlines() == [f"{run.checkpoint(step)}: sound" for step in (10, 20, 25, 30)]
    assert said.startswith(f"kilobatch: {run.checkpoint(40) / WEIGHTS}: SHA-256 ")


def test_verify_calls_nothing_broken_that_the_run_prunes_meanwhile(
    command: Command, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = RunFolder.steps

    def steps(folder: RunFolder) -> list[int]:
        found = listed(folder)
        for step in (10, 40):
            if folder.checkpoint(step).exists():
                shutil.rmtree(folder.checkpoint(step))
        return found

    monkeypatch.setattr(RunFolder, "steps", steps)
    monkeypatch.setattr(checkpoint_commands, "_with_checkpoints", RunFolder)
    code, shown, said = command("verify", run.path)
    assert (code, said) == (0, "")
    assert shown.splitlines() == [f"{run.checkpoint(step)}: sound" for step in (20, 25, 30)]


def test_prune_says_what_goes_and_what_it_frees(command: Command, run: RunFolder) -> None:
    gone = [run.checkpoint(10), run.checkpoint(25)]
    freed = sum(path.stat().st_size for folder in gone for path in folder.iterdir())
    words = ["prune", run.path, "--keep-last", "1", "--keep-every", "20"]
    for dry_run, goes, frees in ((True, "would be", "would free"), (False, "is", "freed")):
        assert run.steps() == [10, 20, 25, 30, 40]
        code, shown, said = command(*words, *["--dry-run"] * dry_run)
        assert code == 0
        assert shown.splitlines() == [
            *(f"{folder}: {goes} deleted, 0.0 MB" for folder in gone),
            f"{run.checkpoints}: {frees} {freed:,} bytes; kept step 20, step 30",
        ]
        assert said.startswith(f"kilobatch: {run.checkpoint(40) / WEIGHTS}: SHA-256 ")  # left, and not counted
        assert len(said.splitlines()) == 1
    assert run.steps() == [20, 30, 40]
    assert command(*words, "--broken")[2] == ""
    assert run.steps() == [20, 30]


def test_prune_deletes_nothing_where_none_is_sound(command: Command, run: RunFolder) -> None:
    for step in (10, 20, 25, 30):
        flip_byte(run.checkpoint(step) / WEIGHTS, -1)
    code, shown, said = command("prune", run.path, "--keep-last", "1", "--broken")
    assert (code, shown) == (3, "")
    assert said.startswith(f"kilobatch: no checkpoint is sound; the newest: {run.checkpoint(40) / WEIGHTS}: ")
    assert run.steps() == [10, 20, 25, 30, 40]


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_prune_is_refused_while_the_run_trains(command: Command, run: RunFolder, dry_run: list[str]) -> None:
    with locked(run):
        code, shown, said = command("prune", run.path, "--keep-last", "1", *dry_run)
    assert (code, shown) == (2, "")
    assert said.startswith(f"kilobatch: {run.path}: another run is training here; ")
    assert len(said.splitlines()) == 1
    assert run.steps() == [10, 20, 25, 30, 40]


def test_prune_is_refused_while_the_run_trains_on_another_machine(command: Command, run: RunFolder) -> None:
    run.log.mkdir()
    with (run.log / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, said = command("prune", run.path, "--keep-last", "1")
    assert (code, said) == (2, f"kilobatch: {run.path}: a run on another machine is training here; wait for it\n")
    assert run.steps() == [10, 20, 25, 30, 40]


@pytest.mark.parametrize("option", ["--keep-last", "--keep-every"])
def test_prune_keeps_at_least_one(command: Command, run: RunFolder, option: str) -> None:
    code, _, said = command("prune", run.path, option, "0")
    assert code == 2
    assert option in said
    assert len(said.splitlines()) == 1
