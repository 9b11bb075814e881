"""Whatever Hugging Face `datasets` loads, from this machine or from the Hub, streamed: one row a document.

A unit is one of the dataset's own shards, mostly a file. Its `path` is the dataset as `load_dataset` is asked for it,
as JSON: how a folder is read is told by all of it.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import InputError, nearest
from pipeline.files import digest_of, file_sha256
from preprocess.config import DatasetsSource
from preprocess.records import META, DeadLetter, Document, Item, Unit

_LOADERS = ("arrow", "csv", "json", "parquet", "text", "webdataset", "xml")  # own to `datasets`: they need data_files
_QUIET = 60  # a level above that of errors: what is wrong is raised too


@contextmanager
def _loading(shown: str) -> Iterator[Any]:
    """Yield the module `datasets`; what it says of a dataset that it cannot read becomes one line.

    Raises:
        InputError: it cannot.
    """
    before = os.environ.get("USE_TORCH")
    os.environ["USE_TORCH"] = "0"  # else it loads torch on its way
    import datasets

    if before is None:
        del os.environ["USE_TORCH"]
    else:
        os.environ["USE_TORCH"] = before
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(_QUIET)
    try:
        yield datasets
    except InputError:
        raise
    except (datasets.exceptions.DatasetsError, pa.ArrowException, LookupError, OSError, ValueError) as error:
        raise InputError(f"{shown}: datasets cannot load it: {' '.join(str(error).split())}") from None


def _is_local(source: DatasetsSource) -> bool:
    return source.path in _LOADERS or Path(source.path).exists()


def list_units(source: DatasetsSource) -> list[Unit]:
    """The shards of a dataset, each a unit.

    The digest of one that lies here is that of its files. On the Hub a commit is one of what it holds, so the revision
    must be one.

    Raises:
        InputError: there is no such dataset, configuration, split or file; or a name on the Hub without a commit.
    """
    local = _is_local(source)
    if source.path in _LOADERS and not source.data_files:
        raise InputError(f"{source.path}: a loader of datasets, in source {source.name!r}; give it data_files")
    if local and source.revision:
        raise InputError(f"{source.path}: lies on this machine; revision is for names on the Hub")
    if not local and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source.path):
        raise InputError(f"{source.path}: no such folder, in source {source.name!r}")
    if not local and not source.revision:
        raise InputError(
            f"{source.path}: no such folder, in source {source.name!r}; for a dataset on the Hub give its revision, a"
            " commit of 40 hexadecimal digits"
        )
    path = str(Path(source.path).resolve()) if local and source.path not in _LOADERS else source.path
    here = Path.cwd()  # what files of a loader are relative to; those of a folder are to it
    data_files = [str(here / name) for name in source.data_files] if source.path in _LOADERS else source.data_files
    asked = {
        "path": path,
        "name": source.config_name,
        "data_files": data_files or None,
        "revision": source.revision,
        "split": source.split,
        "text": source.text,
    }
    with _loading(source.path) as datasets:
        builder = _builder(datasets, asked)
        if local:
            size, digest = _digest(builder, source)
        else:
            size, digest = 0, digest_of({key: asked[key] for key in ("path", "name", "data_files", "revision")})
        shards = builder.as_streaming_dataset(split=source.split).num_shards
    name = Path(path).name if local else path
    found = json.dumps(asked, sort_keys=True)
    return [Unit(0, source.name, source.type, found, name, size, digest, shard, shard + 1) for shard in range(shards)]


def _builder(datasets: Any, asked: dict[str, Any]) -> Any:
    wanted = {key: asked[key] for key in ("path", "name", "data_files", "revision")}
    return datasets.load_dataset_builder(**wanted)


def _digest(builder: Any, source: DatasetsSource) -> tuple[int, str]:
    """(bytes, digest) of all files that a split is read from, and of the README that may say how."""
    splits = {str(split): names for split, names in (builder.config.data_files or {}).items() if names}
    if source.split not in splits:
        raise InputError(f"{source.path}: no files of the split {source.split!r}{nearest(source.split, splits)}")
    names = splits[source.split]
    outside = next((name for name in names if "://" in name), None)
    if outside:
        raise InputError(f"{source.path}: found {outside}; expected files on this machine, or a dataset on the Hub")
    paths = [Path(name) for name in names]
    readme = Path(source.path) / "README.md"
    shared = os.path.commonpath([path.parent for path in paths])
    digests = {os.path.relpath(path, shared): file_sha256(path) for path in paths}
    if readme.is_file():
        digests["README.md"] = file_sha256(readme)
    return sum(path.stat().st_size for path in paths), digest_of(digests)


def read(unit: Unit) -> Iterator[Item]:
    """The rows of a shard: the text, and `id`, `title` and those of `META` where there are such columns.

    Raises:
        InputError: `datasets` cannot read it, or it has no such column of strings.
    """
    asked = json.loads(unit.path)
    with _loading(asked["path"]) as datasets:
        dataset = _builder(datasets, asked).as_streaming_dataset(split=asked["split"])
        for number, row in enumerate(dataset.shard(dataset.num_shards, unit.begin), 1):
            yield _item(row, number, unit, asked)


def _item(row: dict[str, Any], number: int, unit: Unit, asked: dict[str, Any]) -> Item:
    column = asked["text"]
    if column not in row:
        raise InputError(f"{asked['path']}: no column {column!r}{nearest(column, row)}")
    own_id, title, text = row.get("id"), row.get("title"), row[column]
    meta = {key: str(row[key]) for key in META if row.get(key) is not None}
    id = f"{unit.source}/{unit.name}#{unit.begin + 1}.{number}" + (f":{own_id}" if own_id is not None else "")
    if text is None:
        return DeadLetter(id, "read", "no-text", "the row's text is null", "", meta)
    if not isinstance(text, str):
        raise InputError(f"{asked['path']}: column {column!r} holds {type(text).__name__}; expected str")
    return Document(id, unit.source, "" if title is None else str(title), text, "plain", meta)
