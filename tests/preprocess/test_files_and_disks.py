"""Files that cannot be read and disks that are full: one line each, and nothing half-written is left."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import InputError
from preprocess import sources
from preprocess.config import (
    TextSource,
)
from preprocess.run import run
from tests.preprocess.small import small_config, write_raw


@pytest.mark.parametrize("kind", ["loop", "broken link", "folder", "pipe"])
def test_what_is_no_readable_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "input"
    if kind == "loop":
        path.symlink_to(path)
    elif kind == "broken link":
        path.symlink_to(tmp_path / "none")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    for pattern in (str(path), f"{tmp_path}/inp*"):
        with pytest.raises(InputError, match=r"inp\S+: (no such file|matches no file|a folder)"):
            sources.list_units([TextSource(paths=[pattern])])


CLI = "import os, sys, resource; {}; sys.argv[0] = 'kilobatch'; from launch.cli import main; main()"


def kilobatch(first: str, *arguments: str) -> tuple[int, str]:
    """Exit code and errors of a command in a process that does something first."""
    done = subprocess.run([sys.executable, "-c", CLI.format(first), *arguments], capture_output=True, text=True)
    return done.returncode, done.stderr


def write_config(folder: Path) -> Path:
    write_raw(folder / "raw")
    path = folder / "corpus.yaml"
    path.write_text(small_config(folder / "raw", folder / "out" / "corpus").model_dump_json())
    (folder / "out").mkdir()
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
@pytest.mark.parametrize("when", ["listed", "read"])
def test_a_file_that_may_not_be_read(tmp_path: Path, when: str) -> None:
    path = write_config(tmp_path)
    file = tmp_path / "raw" / "books" / "book-1.txt"
    if when == "listed":
        file.chmod(0)
        # without the right of root to read everything, files are read as by anybody else
        first = "from tests.preprocess.test_files_and_disks import without_override; without_override()"
    else:  # it is there when the inputs are listed, and gone when its task comes
        first = (
            "from preprocess import sources; listed = sources.list_units;"
            f"sources.list_units = lambda s: (listed(s), os.unlink({str(file)!r}))[0]"
        )
    code, errors = kilobatch(first, "preprocess", str(path))
    why = "Permission denied" if when == "listed" else "No such file or directory"
    assert (code, errors.splitlines()[-1]) == (2, f"kilobatch: {file}: {why}"), errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").iterdir())


def without_override() -> None:
    """Drop the capabilities by which root reads files that it has no permission for."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    for word in (0, 1):  # effective and permitted: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        data[word] &= ~0b110
    assert libc.capset(header, data) == 0


@pytest.mark.parametrize("limit", [1000, 20_000])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path, limit: int) -> None:
    """A limit on the size of files, in a process of its own, fails at the same places as a disk that is full."""
    path = write_config(tmp_path)
    first = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))"
    code, errors = kilobatch(first, "preprocess", str(path))
    assert code == 1, errors
    assert errors.splitlines()[-1].endswith("EFBIG: no space is left to write to"), errors
    assert "Traceback" not in errors
    left = [p.name for p in (tmp_path / "out").rglob("*") if p.name.startswith(".")]
    assert not left
    assert not (tmp_path / "out" / "corpus").exists()
    run(small_config(tmp_path / "raw", tmp_path / "out" / "corpus"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that gives a disk of so many bytes; it is emptied when it is called again."""
    folder = tmp_path / "disk"

    def mounted(size: int) -> Path:
        subprocess.run(["umount", str(folder)], stderr=subprocess.DEVNULL)
        folder.mkdir(exist_ok=True)
        options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(options, stderr=subprocess.DEVNULL).returncode:
            pytest.skip("mounting is not allowed here")
        return folder

    yield mounted
    subprocess.run(["umount", str(folder)], stderr=subprocess.DEVNULL)


def test_where_the_disk_is_full_there_is_still_room_to_say_so(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    write_raw(tmp_path / "raw")
    path = tmp_path / "corpus.yaml"
    for size in (96_000, 384_000):
        disk = small_disk(size)
        path.write_text(small_config(tmp_path / "raw", disk / "corpus").model_dump_json())
        code, errors = kilobatch("pass", "preprocess", str(path))
        assert (code, errors.splitlines()[-1].endswith("ENOSPC: no space is left to write to")) == (1, True), errors
        assert "Traceback" not in errors
        assert not list(disk.rglob(".*"))
        assert not (disk / "corpus").exists()
