"""From the files that a configuration names to documents. `list_units` finds the files, `read` opens one of them."""

import glob
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.errors import InputError
from preprocess.config import FileSource, OnTruncation, Source
from preprocess.records import DeadLetter, Item, Unit
from preprocess.sources import extracted, huggingface, jsonl, multistream, store, table, textfile, wikipedia
from preprocess.sources.compressed import TruncatedError


def _matches(pattern: str, source: FileSource) -> dict[str, int]:
    """The files of one path or glob, and their bytes.

    Raises:
        InputError: there is none, or a folder.
    """
    if store.is_remote(pattern):
        files = store.match(pattern)
    else:
        found = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207  (Path.glob takes no absolute pattern)
        here = [path.parent.resolve() / path.name for path in found or [Path(pattern)] if path.is_file()]
        files = {str(path): path.stat().st_size for path in here}
    if not files and Path(pattern).is_dir():
        raise InputError(f"{pattern}: a folder, in source {source.name!r}; expected files, such as {pattern}/*.txt")
    if not files:
        what = "matches no file" if glob.has_magic(pattern) else "no such file"
        raise InputError(f"{pattern}: {what}, in source {source.name!r}")
    return files


class _File(NamedTuple):
    """Its name is its path below the folder that all files of the source share."""

    name: str
    path: str
    bytes: int


def _files(source: FileSource) -> list[_File]:
    """The files of a source's paths and globs, each once, by name.

    Raises:
        InputError: a path that does not exist, a glob that matches no file, an empty file.
    """
    found = {path: size for pattern in source.paths for path, size in _matches(pattern, source).items()}
    for path in sorted(found):
        if not found[path]:
            raise InputError(f"{path}: an empty file, in source {source.name!r}")
    places = {path: PurePosixPath("/", path.replace("://", "/")) for path in found}  # s3://a/b as /s3/a/b
    shared = os.path.commonpath([place.parent for place in places.values()])
    return sorted(_File(place.relative_to(shared).as_posix(), path, found[path]) for path, place in places.items())


def _ranges(file: _File, source: FileSource) -> list[tuple[int, int, int]]:
    """(begin, end, what is before) of the units of a file, which together are the whole of it."""
    if source.type == "wikipedia":
        return [(begin, end, 0) for begin, end in multistream.ranges(file.path, file.bytes, source.range_bytes)]
    if source.type == "jsonl":
        return jsonl.ranges(file.path, file.bytes, source.range_bytes)
    if source.type == "extracted":
        return extracted.ranges(file.path, file.bytes, source.range_bytes)
    if source.type == "table":
        return table.ranges(file.path, file.bytes, source.range_bytes)
    return [(0, file.bytes, 0)]


def list_units(sources: Sequence[Source]) -> list[Unit]:
    """All units of a corpus, sorted by source, name and range, each with its input's SHA-256.

    Raises:
        InputError: a file that is missing, empty, or a glob that matches nothing.
    """
    listed: list[Unit] = []
    for source in sorted(sources, key=lambda source: source.name):
        listed += huggingface.list_units(source) if source.type == "datasets" else _file_units(source)
    return [replace(unit, number=number) for number, unit in enumerate(listed)]


def _file_units(source: FileSource) -> list[Unit]:
    files = _files(source)
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock, and stores answer slowly
        digests = list(pool.map(store.sha256, [file.path for file in files]))
    return [
        Unit(0, source.name, source.type, file.path, file.name, file.bytes, digest, *part)
        for file, digest in zip(files, digests, strict=True)
        for part in _ranges(file, source)
    ]


def read(unit: Unit, on_truncation: OnTruncation = "stop") -> Iterator[Item]:
    """Documents of a unit, and what in it is none.

    Args:
        on_truncation: whether a file that ends too early is an error, or what it has is kept, with a dead letter.

    Raises:
        InputError: the file is truncated or damaged.
    """
    try:
        yield from _read(unit)
    except TruncatedError as error:
        if on_truncation == "stop":
            raise
        yield DeadLetter(f"{unit.source}/{unit.name}#end", "read", "truncated", error.what, "")


def _read(unit: Unit) -> Iterator[Item]:
    if unit.type == "wikipedia":
        return wikipedia.read(unit)
    if unit.type == "books":
        return textfile.read_book(unit)
    if unit.type == "text":
        return textfile.read_text(unit)
    if unit.type == "extracted":
        return extracted.read(unit)
    if unit.type == "table":
        return table.read(unit)
    if unit.type == "datasets":
        return huggingface.read(unit)
    return jsonl.read(unit)
