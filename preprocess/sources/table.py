"""Parquet and Arrow files, as Hugging Face `datasets` keeps them: one row a document, a bounded number at a time."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError, nearest
from preprocess.records import META, DeadLetter, Document, Item, Unit, snippet
from preprocess.sources.store import is_remote, open_file

ROWS = 256  # at once


def ranges(path: str, bytes: int, target: int) -> list[tuple[int, int, int]]:
    """(first row group, end, rows before) of ranges of `target` bytes of a Parquet file; of others the whole."""
    if not _is_parquet(path):
        return [(0, bytes, 0)]
    try:
        with open_file(path) as file:
            metadata = pq.read_metadata(file)
    except (pa.ArrowException, OSError):  # damaged: whoever reads it will tell
        return [(0, bytes, 0)]
    length = bytes // max(1, bytes // target)
    cuts, rows, compressed = [(0, 0)], 0, 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        rows += group.num_rows
        compressed += sum(group.column(column).total_compressed_size for column in range(group.num_columns))
        if compressed >= length and number + 1 < metadata.num_row_groups:
            cuts.append((number + 1, rows))
            compressed = 0
    cuts.append((metadata.num_row_groups, rows))
    return [(begin, end, before) for (begin, before), (end, _) in pairwise(cuts)]


def read(unit: Unit) -> Iterator[Item]:
    """The rows of a unit: `text`, and `id`, `title` and those of `META` where there are such columns.

    A null text is a dead letter.

    Raises:
        InputError: neither Parquet nor Arrow, damaged, or without a text column.
    """
    path = unit.path
    number = unit.before
    try:
        for batch in _batches(unit):
            _check(batch.schema, path)
            for row in _rows(batch):
                number += 1
                yield _item(row, number, unit)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the file's
            raise
        what = " ".join(str(error).split())
        raise InputError(f"{path}: damaged, after {number} rows, or no Parquet or Arrow file: {what}") from None


def _magic(path: str) -> bytes:
    with open_file(path) as file:
        return file.read(6)


def _is_parquet(path: str) -> bool:
    return _magic(path).startswith(b"PAR1")


def _batches(unit: Unit) -> Iterator[pa.RecordBatch]:
    path = unit.path
    if _is_parquet(path):
        with open_file(path) as file, pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            wanted = [name for name in ("id", "title", "text", *META) if name in names]
            groups = list(range(unit.begin, unit.end))
            yield from parquet.iter_batches(ROWS, groups, columns=wanted if "text" in names else None)
        return
    with pa.PythonFile(open_file(path)) if is_remote(path) else pa.memory_map(path) as file:
        if _magic(path) == b"ARROW1":
            reader = pa.ipc.open_file(file)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            batches = iter(pa.ipc.open_stream(file))
        for batch in batches:
            yield from (batch.slice(begin, ROWS) for begin in range(0, batch.num_rows, ROWS))


def _check(schema: pa.Schema, path: str) -> None:
    if "text" not in schema.names:
        raise InputError(f"{path}: no column 'text'{nearest('text', schema.names)}")
    found = schema.field("text").type
    if not (pa.types.is_string(found) or pa.types.is_large_string(found)):
        raise InputError(f"{path}: column 'text' is of type {found}; expected string")


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    """(id, title, text, *META) of each row; strings as bytes, since Arrow does not say whether they are UTF-8."""

    def values(name: str) -> list[Any]:
        if name not in batch.schema.names:
            return [None] * batch.num_rows
        column = batch.column(name)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        return list((column.cast(pa.large_binary()) if is_text else column).to_pylist())

    return zip(*map(values, ("id", "title", "text", *META)), strict=True)


def _shown(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _item(row: tuple[Any, ...], number: int, unit: Unit) -> Item:
    own_id, title, data, *said = row
    meta = {key: _shown(value) for key, value in zip(META, said, strict=True) if value is not None}
    id = f"{unit.source}/{unit.name}#{number}" + (f":{_shown(own_id)}" if own_id is not None else "")
    if data is None:
        return DeadLetter(id, "read", "no-text", "the row's text is null", "", meta)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        beginning = snippet(data[:1000].decode("utf-8", "backslashreplace"))
        return DeadLetter(id, "read", "not-utf-8", f"not UTF-8 at byte {error.start} of the text", beginning, meta)
    return Document(id, unit.source, "" if title is None else _shown(title), text, "plain", meta)
