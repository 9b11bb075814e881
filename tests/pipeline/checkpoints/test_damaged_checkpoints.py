"""A checkpoint with any damage is found before a tensor is used, and named; the one before it is taken (law 4)."""

import errno
import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import tensor_file
from pipeline.checkpoints.prune import choose
from pipeline.checkpoints.run_folder import PAUSES, RunFolder, read_checkpoint_manifest
from pipeline.errors import DigestError, InputError, Unreadable
from pipeline.files import MANIFEST, read_json
from tests.checkpoints import checkpoint

FILES = [MANIFEST, "rank-00000.safetensors", "rank-00001.safetensors"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    for step in (10, 20, 30):
        checkpoint(folder, step, world_size=2)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The tensor files that have been opened as such."""
    paths: list[Path] = []
    safe_open = tensor_file.safe_open

    def spy(path: Path, *arguments: Any) -> Any:
        paths.append(path)
        return safe_open(path, *arguments)

    monkeypatch.setattr(tensor_file, "safe_open", spy)
    return paths


def flip_bit(seed: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        bit = random.Random(f"{seed} {path.name}").randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)

    return flip


def truncate(length: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: length(path.stat().st_size)]) and None


DAMAGE = {
    **{f"bit {seed}": flip_bit(seed) for seed in range(3)},
    "empty": truncate(lambda size: 0),
    "one byte": truncate(lambda size: 1),
    "half": truncate(lambda size: size // 2),
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_the_one_before_is_taken(run: RunFolder, opened: list[Path], file: str, damage: str) -> None:
    broken = run.checkpoint(30)
    DAMAGE[damage](broken / file)
    manifest, passed_over = run.to_resume("auto")
    assert manifest is not None
    assert manifest["step"] == 20
    assert [str(broken) in str(error) for error in passed_over] == [True]
    assert {path.parent for path in opened} == {run.checkpoint(20)}

    for step in (10, 20):
        DAMAGE[damage](run.checkpoint(step) / file)
    opened.clear()
    for resume in ("auto", "must"):
        with pytest.raises(DigestError, match=r"no checkpoint is sound; the newest: ") as none_left:
            run.to_resume(resume)
        assert none_left.value.exit_code == 3
        assert str(broken) in str(none_left.value)
    assert opened == []


def test_any_bit_of_a_manifest(run: RunFolder) -> None:
    """Whichever of 300 flips, the manifest is refused, or says the same as before: `1e-5` as `1E-5`."""
    folder = run.checkpoint(30)
    path, expected = folder / MANIFEST, read_json(folder / MANIFEST)
    whole = path.read_bytes()
    for bit in random.Random(6).sample(range(8 * len(whole)), 300):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            found = read_checkpoint_manifest(folder)
        except (DigestError, InputError):
            continue
        assert found == expected


def test_files_that_were_swapped(run: RunFolder, opened: list[Path]) -> None:
    """Both are sound safetensors of the right size and names, in the wrong checkpoint."""
    first, second, aside = run.checkpoint(30) / FILES[1], run.checkpoint(20) / FILES[1], run.path / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    manifest, passed_over = run.newest_sound()
    assert manifest is not None
    assert manifest["step"] == 10
    assert [str(path) in str(error) for path, error in zip((first, second), passed_over, strict=True)] == [True, True]
    assert {path.parent for path in opened} == {run.checkpoint(10)}


@pytest.mark.parametrize("name", ["rank-00002.safetensors", "more/x.safetensors"])
def test_a_tensor_file_that_the_manifest_does_not_name(run: RunFolder, opened: list[Path], name: str) -> None:
    path = run.checkpoint(30) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((run.checkpoint(30) / FILES[1]).read_bytes())
    manifest, passed_over = run.newest_sound()
    assert manifest is not None
    assert manifest["step"] == 20
    assert [str(error) for error in passed_over] == [f"{path}: not in the manifest; nothing says where it comes from"]
    assert {path.parent for path in opened} == {run.checkpoint(20)}


def test_a_note_beside_a_checkpoint_is_no_damage(run: RunFolder) -> None:
    (run.checkpoint(30) / "why-we-kept-it.txt").write_text("best so far")
    manifest, passed_over = run.newest_sound()
    assert manifest is not None
    assert (manifest["step"], passed_over) == (30, [])


class Failing:
    """Whoever opens or reads one of these files gets an error of the system's, so many times.

    Attributes:
        pauses: that were made before reading again.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, paths: list[Path], times: int = 10**9) -> None:
        self.number, self.paths, self.left = number, paths, times
        self.pauses: list[float] = []
        for name in ("open", "read_bytes"):
            monkeypatch.setattr(Path, name, self.instead_of(getattr(Path, name)))
        monkeypatch.setattr(time, "sleep", self.pauses.append)

    def instead_of(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def failing(path: Path, *arguments: Any, **options: Any) -> Any:
            if path in self.paths and self.left:
                self.left -= 1
                raise OSError(self.number, os.strerror(self.number), str(path))
            return method(path, *arguments, **options)

        return failing


@pytest.mark.parametrize("file", FILES)
def test_what_the_medium_cannot_give_is_passed_over(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    """A bad sector under one checkpoint must not end a run that has others; but first it is read again."""
    bad = run.checkpoint(30) / file
    failing = Failing(monkeypatch, errno.EIO, [bad])
    manifest, passed_over = run.to_resume("auto")
    assert manifest is not None
    assert manifest["step"] == 20
    assert [str(error) for error in passed_over] == [f"{bad}: Input/output error"]
    assert failing.pauses == list(PAUSES)
    assert capsys.readouterr().err.splitlines() == [
        f"kilobatch: {bad}: Input/output error; it is read again in {pause} s" for pause in PAUSES
    ]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("file", FILES)
def test_what_can_be_read_the_next_time_is_taken(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, file: str, number: int
) -> None:
    """To pass it over would be to do its steps again, and to set it aside."""
    failing = Failing(monkeypatch, number, [run.checkpoint(30) / file], times=2)
    manifest, passed_over = run.to_resume("auto")
    assert manifest is not None
    assert (manifest["step"], passed_over) == (30, [])
    assert failing.pauses == list(PAUSES[:2])


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES, errno.ETIMEDOUT, errno.EMFILE])
@pytest.mark.parametrize("file", FILES)
def test_what_is_out_of_reach_is_not_passed_over(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, file: str, number: int
) -> None:
    """The next start may read it; nothing goes back behind it meanwhile, and nothing is deleted."""
    bad = run.checkpoint(30) / file
    Failing(monkeypatch, number, [bad])
    for ask in (lambda: run.to_resume("auto"), run.newest_sound, lambda: choose(run, 1, None, broken=True)):
        with pytest.raises(Unreadable, match=f"^{re.escape(f'{bad}: {os.strerror(number)}')}$") as raised:
            ask()
        assert raised.value.restart


def test_a_run_whose_checkpoints_cannot_be_read_now_is_started_again(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that is away for a minute leaves none sound and damages none; it is waited for once, not thrice."""
    failing = Failing(monkeypatch, errno.EIO, [run.checkpoint(step) / FILES[2] for step in run.steps()])
    with pytest.raises(Unreadable, match=r"no checkpoint is sound; the newest: .*: Input/output error") as raised:
        run.to_resume("auto")
    assert (raised.value.restart, raised.value.exit_code) == (True, 3)
    assert failing.pauses == list(PAUSES)
    for step in run.steps():
        (run.checkpoint(step) / FILES[2]).unlink()
    with pytest.raises(DigestError) as raised:
        run.to_resume("auto")
    assert not raised.value.restart


def test_prune_deletes_what_is_damaged_but_not_what_cannot_be_read(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.checkpoint(20) / FILES[1]).unlink()
    Failing(monkeypatch, errno.EIO, [run.checkpoint(30) / FILES[1]])
    choice = choose(run, 1, None, broken=True)
    assert (choice.kept, choice.doomed) == ([10], [run.checkpoint(20)])
    assert [str(error) for error in choice.unsound] == [f"{run.checkpoint(30) / FILES[1]}: Input/output error"]
