"""Atomic files and their digests (laws 3 and 4).

A file or folder appears under its name only when it is whole: it is written under a temporary name, synced, and
renamed. A folder's `manifest.json`, with the SHA-256 of every other file, is written last; a folder without one does
not exist for any reader.
"""

import fcntl
import hashlib
import json
import math
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pipeline.errors import DigestError, InputError, Unreadable

MANIFEST = "manifest.json"
BLOCK_BYTES = 2**22  # what a CRC-32 in a manifest covers, so that damage to a large file is found where it is
LONGEST_NAME = 255  # bytes, of a file system's
TEMPORARY = ".tmp-"  # prefix of every name that is not finished; whatever carries it may be deleted when no run is live


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON value's canonical text."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_digested(path: Path, blocks: Iterable[bytes | memoryview]) -> bytes:
    """Write and sync a file that nobody reads yet; its SHA-256, taken on the way."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for block in blocks:  # both release the interpreter's lock
            file.write(block)
            digest.update(block)
    sync_file(path)
    return digest.digest()


def beside(path: Path) -> Path:
    """A temporary name beside `path`, another for each writer: two machines may run the same task at the same time."""
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, on failure removed.

    Its folder is made, but none above it: a task that outlives its stopped run fails, and brings no folder back.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = beside(path)
    try:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write indented, key-sorted JSON atomically."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def publish_folder(temporary: Path, final: Path) -> None:
    """Rename a finished folder into place. Its files must be synced; `final` must not exist."""
    sync_folder(temporary)
    temporary.rename(final)
    sync_folder(final.parent)


def unmakeable(output: Path, error: Exception) -> InputError:
    """Why an output cannot be made where the user wants it."""
    why = error.strerror if isinstance(error, OSError) else error
    return InputError(f"output: cannot make {str(output)!r}: {why}; give a path below a folder that can be written to")


@contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """An empty folder inside a hidden one beside `output`, to publish a part of; one command at a time holds that.

    It is removed at the end; what a killed command left is removed at the beginning. Its path is another each time: a
    task of a killed command that goes on, in the worker of a cluster, finds nothing of the next one's.

    Raises:
        InputError: another process holds it, or it cannot be made.
    """
    work = output.with_name(f"{TEMPORARY}{output.name}")
    try:
        work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(work, os.O_RDONLY)
    except (OSError, ValueError) as error:
        raise unmakeable(output, error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{output}: another run is writing it now; wait for it, or give another output") from None
        _empty(work)
        shutil.rmtree(_gone(work), ignore_errors=True)
        try:
            mine = work / secrets.token_hex(8)
            mine.mkdir()
            yield mine
        finally:
            _remove(work)
    finally:
        os.close(descriptor)


def _gone(work: Path) -> Path:
    return work.with_name(f"{work.name}~")


def _remove(work: Path) -> None:
    """Delete a folder into which a task on another machine, whose run was stopped, may be about to write."""
    shutil.rmtree(work.replace(_gone(work)))


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        _remove(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def check_writable(output: Path) -> None:
    """Whether a folder can be made at `output`, or written into; nothing is made.

    Raises:
        InputError: it cannot.
    """
    there = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"output: cannot make {str(output)!r}: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"output: cannot make {str(output)!r}: no permission to write to {there}")


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed run left unfinished in `folder` and below."""
    for entry in sorted(folder.rglob(f"{TEMPORARY}*"), reverse=True):  # what is inside of it first
        remove(entry)


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def inside(folder: Path, name: str) -> Path:
    """`folder/name` for a name read from a manifest, which must be a plain relative path that stays inside.

    Raises:
        InputError: an absolute name, `..`, a back-slash, what cannot be printed, what no file system can name, or a
            symbolic link on the way.
    """
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or not pure.parts:
        raise InputError(f"{folder / MANIFEST}: file name {name!r} leads outside the folder")
    if not name.isprintable():  # a message with it would steer a terminal
        raise InputError(f"{folder / MANIFEST}: file name {name!r} cannot be printed")
    if len(name.encode()) > LONGEST_NAME:
        raise InputError(f"{folder / MANIFEST}: file name {name[:20]!r}… is too long")
    path = folder
    for part in pure.parts:
        path = path / part
        if path.is_symlink():
            raise InputError(f"{path}: a symbolic link where {folder / MANIFEST} expects a file")
    return path


def _finite(text: str) -> float:
    """Python reads NaN and Infinity where JSON has neither, and `canonical_json` could not write them again."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of which no key is given twice: Python takes the last of several, another reader the first."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} is given twice")
        found[key] = value
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: no such file, or not a JSON object.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    return _parse_json(path, data)


def _parse_json(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data, parse_float=_finite, parse_constant=_finite, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """What the system cannot read is `Unreadable`; what is not there, or not as it should be, is for the reader."""
    try:
        yield
    except OSError as error:
        raise Unreadable(f"{error.filename or folder}: {error.strerror}", error.errno) from None


def _digests(path: Path) -> tuple[str, list[int]]:
    """(SHA-256, CRC-32 of every block) of a file, read once."""
    whole, blocks = hashlib.sha256(), []
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            whole.update(block)
            blocks.append(zlib.crc32(block))
    return whole.hexdigest(), blocks


def describe_files(folder: Path, names: list[str], in_blocks: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """The manifest's `files` table: name → size in bytes and SHA-256, each file synced on the way.

    Args:
        in_blocks: ends of the names of files whose entry also has the CRC-32 of every block of `BLOCK_BYTES`.
    """

    def describe(name: str) -> dict[str, Any]:
        path = folder / name
        sync_file(path)
        size = path.stat().st_size
        if not name.endswith(in_blocks):
            return {"bytes": size, "sha256": file_sha256(path)}
        sha256, blocks = _digests(path)
        return {"bytes": size, "sha256": sha256, "blocks": blocks}

    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        return dict(zip(sorted(names), pool.map(describe, sorted(names)), strict=True))


def _damaged(path: Path, entry: Mapping[str, Any]) -> str:
    """In which bytes a file's blocks differ from what its manifest says, neighbours joined: the end of a message."""
    ranges: list[tuple[int, int]] = []
    for number, pair in enumerate(zip(_digests(path)[1], entry.get("blocks", ()), strict=False)):
        if pair[0] != pair[1]:
            begin = number * BLOCK_BYTES
            first = ranges.pop()[0] if ranges and ranges[-1][1] == begin else begin
            ranges.append((first, min(begin + BLOCK_BYTES, entry["bytes"])))
    shown = [f"{begin} to {end - 1}" for begin, end in ranges[:4]] + ["…"] * (len(ranges) > 4)
    return f"; damaged within bytes {', '.join(shown)}" if ranges else ""


def verify_file(folder: Path, name: str, entry: Mapping[str, Any]) -> Path:
    """The path of one file of a manifest, after its size and SHA-256 have been compared.

    Raises:
        DigestError: missing, of another size, or of another digest; it names the bytes where blocks were summed.
    """
    path = inside(folder, name)
    if not path.is_file():
        raise DigestError(f"{path}: missing; expected {entry['bytes']} bytes, SHA-256 {entry['sha256']}")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise DigestError(f"{path}: {size} bytes, expected {entry['bytes']}, SHA-256 {entry['sha256']}")
    found = file_sha256(path)
    if found != entry["sha256"]:
        raise DigestError(f"{path}: SHA-256 {found}, expected {entry['sha256']}{_damaged(path, entry)}")
    return path


def verify_files(
    folder: Path, files: Mapping[str, Mapping[str, Any]], advance: Callable[[], None] = lambda: None
) -> None:
    """Compare every file of a manifest with its SHA-256; `advance` is called after each.

    Raises:
        DigestError: names the first file that differs, the expected and the found digest.
    """
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        for _ in pool.map(verify_file, repeat(folder), files, files.values()):
            advance()


def seal(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with `digest`, the SHA-256 of all its other fields: what a manifest says is protected too."""
    body = {key: value for key, value in manifest.items() if key != "digest"}
    return {**body, "digest": digest_of(body)}


class FileEntry(TypedDict):
    """One line of a manifest's `files`."""

    bytes: int
    sha256: str
    blocks: NotRequired[list[int]]


class Manifest(TypedDict):
    """What every manifest has; a kind of folder adds its own keys."""

    files: dict[str, FileEntry]


def read_manifest(folder: Path, kind: str, version: int, form: type = Manifest) -> dict[str, Any]:
    """A folder's manifest, its own digest, kind, format version and form checked (the files are not read).

    Args:
        form: a TypedDict that extends `Manifest`: the keys that are going to be read.

    Raises:
        InputError: there is none, or it is of another kind, version or form.
        DigestError: it was altered after it was written. Unreadable: the system cannot read it.
    """
    with reading(folder):
        path = inside(folder, MANIFEST)
        if not path.is_file():
            raise InputError(f"{folder}: no {MANIFEST} here; expected a finished {kind} folder")
        data = path.read_bytes()
    try:
        manifest = _parse_json(path, data)
    except InputError as error:
        raise DigestError(str(error)) from None  # what we write is JSON: it was damaged since
    if manifest.get("kind") != kind:
        raise InputError(f"{path}: kind {manifest.get('kind')!r}, expected {kind!r}")
    if manifest.get("format") != version:
        raise InputError(f"{path}: format {manifest.get('format')!r}; this version of Kilobatch reads {version}")
    found = seal(manifest)["digest"]
    if manifest.get("digest") != found:
        raise DigestError(f"{path}: SHA-256 of its contents {found}, expected {manifest.get('digest')}")
    check_form(path, manifest, form)
    return manifest


def check_form(path: Path, value: dict[str, Any], form: type) -> None:
    """That the JSON object of a file has the keys and types of a TypedDict; others beside them are left alone.

    Raises:
        InputError: names the first that is missing or of another type.
    """
    try:
        TypeAdapter(form).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place, why = repr(".".join(map(str, first["loc"])))[1:-1], first["msg"]
        raise InputError(f"{path}: {place}: {why.lower()}; another program wrote it") from None
