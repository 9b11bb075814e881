"""Where inputs lie: on this machine, or in a store that Beam has a filesystem for (`gs://`, `s3://`, `hdfs://`)."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

_BUFFER = 2**20  # a remote file is asked for so much at once


def is_remote(path: str) -> bool:
    return "://" in path


@contextmanager
def _filesystems(path: str) -> Iterator[Any]:
    """Yield Beam's filesystems; what they say of a store that cannot be reached becomes one line.

    Raises:
        InputError: no such scheme, its libraries are not installed, or the store refuses.
    """
    from preprocess.graph import FileSystems, PipelineOptions  # imports Beam, quietly; inputs here do not need it

    if FileSystems._pipeline_options is None:  # a worker of an engine that does not hand them over
        FileSystems.set_options(PipelineOptions([]))
    try:
        yield FileSystems
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        scheme = path.partition("://")[0]
        extra = {"gs": "gcp", "s3": "aws", "hdfs": "hdfs"}.get(scheme)
        hint = f"; is kilobatch[{extra}] installed?" if extra else "; accepted: gs://, s3://, hdfs://"
        why = " ".join(str(error).split()).removesuffix(".")
        raise InputError(f"{path}: cannot be read: {why}{hint}") from None


def match(pattern: str) -> dict[str, int]:
    """The remote files that a path or a glob means, and their bytes: asked for in one listing, however many."""
    with _filesystems(pattern) as filesystems:
        return {found.path: int(found.size_in_bytes) for found in filesystems.match([pattern])[0].metadata_list}


def open_file(path: str) -> io.BufferedReader:
    """A file's bytes, as they are."""
    if not is_remote(path):
        return Path(path).open("rb")
    with _filesystems(path) as filesystems:
        return io.BufferedReader(filesystems.open(path, compression_type="uncompressed"), _BUFFER)


def sha256(path: str) -> str:
    """By reading: what stores say of their objects' content is no SHA-256, and may be of its parts only."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
