"""What checkpoints a run has, for people. No torch."""

import os
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.checkpoints.run_folder import SET_ASIDE, RunFolder, read_checkpoint_manifest
from pipeline.errors import UserError
from pipeline.files import MANIFEST, reading
from pipeline.tables import print_table

_AGES = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def print_checkpoints(run: RunFolder, console: Console) -> list[UserError]:
    """A table of those whose manifests can be read; why the others' cannot. Those that go meanwhile are neither."""
    table, errors = Table("checkpoint", "step", "samples", "size", "age", "ranks"), []
    for step in run.steps():
        folder = run.checkpoint(step)
        try:
            with reading(folder):
                table.add_row(str(folder), f"{step:,}", *_row(folder))
        except UserError as error:
            if os.path.lexists(folder):
                errors.append(error)
    if table.row_count:
        print_table(table, console)
    for path in sorted(run.checkpoints.glob(f"{SET_ASIDE}*")):
        with suppress(FileNotFoundError):
            console.print(f"{path}: set aside, {size(size_of(path))}", markup=False, soft_wrap=True)
    return errors


def _row(folder: Path) -> tuple[str, str, str, str]:
    manifest = read_checkpoint_manifest(folder)
    age = time.time() - (folder / MANIFEST).stat().st_mtime
    return f"{manifest['consumed_samples']:,}", size(size_of(folder)), age_of(age), str(len(manifest["files"]))


def age_of(seconds: float) -> str:
    """Two digits or three are enough: 59 s, 1.5 h, 12 d."""
    unit, length = next(((unit, length) for unit, length in _AGES if seconds >= length), _AGES[-1])
    count = max(seconds, 0) / length
    return f"{count:.0f} {unit}" if count >= 10 or unit == "s" else f"{count:.1f} {unit}"


def size(count: int) -> str:
    """Of bytes."""
    return f"{count / 1e6:,.1f} MB"


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    return sum(entry.lstat().st_size for entry in (path, *path.rglob("*")) if entry.is_symlink() or entry.is_file())
