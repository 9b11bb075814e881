"""A disk that is full at any write of a save: the checkpoints before it are whole, and nothing half-made is seen."""

import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist

from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.checkpoints.saving import Saver
from pipeline.engine.engine import Engine, Fragment
from pipeline.errors import RunError
from pipeline.files import BLOCK_BYTES, TEMPORARY
from tests.checkpoints import stamp_of

NUMEL = BLOCK_BYTES // 4 * 3 // 4  # of each of three tensors: a file of a header and three blocks
FILE_BYTES = 3 * 4 * NUMEL


@pytest.fixture(autouse=True, scope="module")
def _one_rank() -> Iterator[None]:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Kept:
    """An engine as far as a save looks."""

    stage, world_size, loss_scale = 1, 1, None
    shapes, states = {"w": [NUMEL]}, {"w": ["exp_avg", "exp_avg_sq"]}

    def __init__(self, updates: int) -> None:
        self.updates = updates
        self.tensors = {state: torch.full((NUMEL,), float(updates)) for state in ("weight", *self.states["w"])}

    def fragments(self) -> list[Fragment]:
        return [Fragment("w", 0, self.tensors)]


def save(run: RunFolder, step: int) -> None:
    saver = Saver(run, cast(Engine, Kept(step)))
    saver.begin(step, stamp_of(step))
    saver.finish()


def left(run: RunFolder) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir()) if run.checkpoints.is_dir() else []


def needed_of(message: str, run: RunFolder, step: int) -> int:
    """The bytes that a message says were needed, after all of it was looked at."""
    match = re.fullmatch(
        rf"{run.checkpoint(step)}: not saved: rank 0: No space left on device; it needs ([\d,]+) bytes, "
        r"([\d,]+) are free; the checkpoints before it are whole",
        message,
    )
    assert match, message
    return int(match[1].replace(",", ""))


class Full:
    """A disk on which every call that takes space fails, from the `last` on that succeeds."""

    def __init__(self) -> None:
        self.made, self.last = 0, 10**9

    def call(self) -> None:
        if self.made >= self.last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.made += 1

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            self.call()
            return function(*arguments, **options)

        return called

    def open(self, path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = open(path, mode, *arguments, **options)  # noqa: PTH123, SIM115
        return Written(file, self) if "w" in mode else file  # an empty file takes no space


class Written:
    """A file of which each write is a call that takes space."""

    def __init__(self, file: Any, disk: Full) -> None:
        self.file, self.write = file, disk.wrap(file.write)

    def __enter__(self) -> "Written":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Full:
    full = Full()
    for name in ("mkdir", "fsync", "rename", "replace"):
        monkeypatch.setattr(os, name, full.wrap(getattr(os, name)))
    monkeypatch.setattr(Path, "open", lambda path, *given, **options: full.open(path, *given, **options))
    return full


def test_an_error_at_any_call_of_a_save(tmp_path: Path, disk: Full) -> None:
    run = RunFolder(tmp_path)
    save(run, 1)
    disk.made = 0
    save(run, 2)
    calls = disk.made
    assert calls > 10  # mkdir, four writes and their fsync, the manifest's, the folders' and two renames
    for last in range(calls):
        disk.made, disk.last = 0, last
        with pytest.raises(RunError) as caught:
            save(run, 3)
        disk.last = 10**9
        assert verify_checkpoint(run.checkpoint(2))["updates"] == 2
        if run.steps() == [1, 2, 3]:  # only a sync behind the rename failed
            assert str(caught.value).startswith(f"{run.checkpoint(3)}: saved, but ")
            assert verify_checkpoint(run.checkpoint(3))["updates"] == 3
            run.set_aside_after(2)
            continue
        assert [name for name in left(run) if not name.startswith("broken-")] == ["step-00000001", "step-00000002"]
        assert needed_of(str(caught.value), run, 3) > FILE_BYTES
    save(run, 3)
    assert verify_checkpoint(run.checkpoint(3))["updates"] == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[RunFolder]:
    """A run on a file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    size = f"size={6 * FILE_BYTES}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield RunFolder(place / "run")
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(run: RunFolder, free: int) -> None:
    """Leave so many bytes of its file system free."""
    there = os.statvfs(run.path)
    (run.path / "filler").write_bytes(bytes(there.f_bavail * there.f_frsize - free))


@pytest.mark.parametrize(
    "free",
    [0, 4096, BLOCK_BYTES + 8192, 2 * BLOCK_BYTES + 8192, FILE_BYTES, FILE_BYTES + 4096],
    ids=["nothing", "the header", "a block", "two blocks", "all but the end", "all but the manifest"],
)
def test_a_file_system_that_is_full(small_disk: RunFolder, free: int) -> None:
    run = small_disk
    run.path.mkdir()
    save(run, 1)
    fill(run, free)
    with pytest.raises(RunError) as caught:
        save(run, 2)
    assert left(run) == ["step-00000001"]
    assert verify_checkpoint(run.checkpoint(1))["updates"] == 1
    assert needed_of(str(caught.value), run, 2) > max(FILE_BYTES, free)
    (run.path / "filler").unlink()
    save(run, 2)
    assert verify_checkpoint(run.checkpoint(2))["updates"] == 2


def test_a_file_system_that_is_full_from_the_start(small_disk: RunFolder) -> None:
    run = small_disk
    run.path.mkdir()
    fill(run, 0)
    with pytest.raises(RunError) as caught:
        save(run, 1)
    assert needed_of(str(caught.value), run, 1) > FILE_BYTES
    assert left(run) == []
    assert not list(run.path.rglob(f"{TEMPORARY}*"))
