"""Where inputs lie: on this machine, or in a store that Beam has a filesystem for (`gs://`, `s3://`, `hdfs://`)."""

import hashlib
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pipeline.errors import InputError

PATIENCE = 30  # seconds
_BUFFER = 2**20  # a remote file is asked for so much at once
_EXTRAS = {"gs": ("gcp", "google.cloud.storage"), "s3": ("aws", "boto3"), "hdfs": ("hdfs", "hdfs")}
_GLOB = re.compile(r"[*?\[]")


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
    except InputError:
        raise
    except Exception as error:  # stores' clients have errors of all kinds
        raise InputError(f"{path}: cannot be read: {_why(error)}{_hint(path)}") from None


def _why(error: BaseException) -> str:
    """What a store's client says, without the wrappings of Beam."""
    while details := getattr(error, "exception_details", None):
        error = next(iter(details.values()))
    said = str(getattr(error, "message", None) or error) or type(error).__name__
    return " ".join(said.split()).removesuffix(".")


def _hint(path: str) -> str:
    """Which stores there are, or what the one of a path needs, unless it is installed."""
    extra, module = _EXTRAS.get(path.partition("://")[0], ("", ""))
    if not extra:
        return "; accepted: gs://, s3://, hdfs://"
    try:
        return "" if find_spec(module) else f"; is kilobatch[{extra}] installed?"
    except ModuleNotFoundError:  # not even the package that it is in
        return f"; is kilobatch[{extra}] installed?"


def match(pattern: str) -> dict[str, int]:
    """The remote files that a path or a glob means, and their bytes: asked for in one listing, however many."""
    with _filesystems(pattern) as filesystems:
        if pattern.startswith("s3://"):
            _ask_s3(pattern, filesystems._pipeline_options)
        return {found.path: int(found.size_in_bytes) for found in filesystems.match([pattern])[0].metadata_list}


def _ask_s3(pattern: str, options: Any) -> None:
    """Ask once whether somebody answers: Beam would ask eight times in ten minutes, with a traceback each.

    What an answer says is left to Beam: that an access is denied, it says at once.

    Raises:
        RuntimeError: nobody answers, or no credentials are found.
    """
    from apache_beam.io.aws.clients.s3 import boto3_client, messages
    from apache_beam.io.aws.s3io import parse_s3_path

    bucket, prefix = parse_s3_path(_GLOB.split(pattern, maxsplit=1)[0], object_optional=True)
    answers: SimpleQueue[BaseException | None] = SimpleQueue()

    def ask() -> None:
        try:
            boto3_client.Client(options).list(messages.ListRequest(bucket, prefix))
        except BaseException as error:
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()  # a client may wait for minutes
    try:
        error = answers.get(timeout=PATIENCE)
    except Empty:
        raise RuntimeError(f"nobody answers within {PATIENCE} seconds") from None
    if error is not None and getattr(error, "code", None) is None:
        raise RuntimeError(_why(error))


def open_file(path: str) -> io.BufferedReader:
    """A file's bytes, as they are."""
    if not is_remote(path):
        return Path(path).open("rb")
    with _filesystems(path) as filesystems:
        return io.BufferedReader(filesystems.open(path, compression_type="uncompressed"), _BUFFER)


def sha256(path: str) -> str:
    """By reading: what stores say of their objects' content is no SHA-256, and may be of its parts only."""
    with _filesystems(path) if is_remote(path) else nullcontext(), open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
