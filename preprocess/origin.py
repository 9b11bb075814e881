"""With what a corpus is made: the code of preprocessing, and the versions of what has a part in its bytes."""

import hashlib
import importlib.metadata
import socket
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pipeline.errors import InputError
from pipeline.files import digest_of
from preprocess.config import CorpusConfig

VERSIONS = (
    "kilobatch",
    "apache-beam",
    "ftfy",
    "sentencepiece",
    "tokenizers",
    "pyarrow",
    "datasets",
    "numpy",
    "safetensors",
)


def versions(config: CorpusConfig) -> dict[str, str]:
    """Of Kilobatch and of the libraries that have a part in a corpus's bytes."""
    names = (*VERSIONS, "py3langid") if config.filter.language else VERSIONS
    return {name: importlib.metadata.version(name) for name in names}


class WorkerError(InputError):
    """A worker cannot do a task right; `preprocess.graph.running` finds its one line in what a runner makes of it."""

    def __init__(self, message: str) -> None:
        super().__init__(message if message.startswith("worker ") else f"worker {socket.gethostname()}: {message}")


@lru_cache(maxsize=1)
def code() -> str:
    """SHA-256 over the source files of this package."""
    root = Path(__file__).parent
    paths = sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix())
    return digest_of({p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths})


@lru_cache(maxsize=1)
def origin(libraries: tuple[str, ...]) -> dict[str, str]:
    """The code's digest, the version of Unicode that Python knows, and the versions of libraries."""
    found = {name: _version(name) for name in libraries}
    return {"kilobatch's code": code(), "Unicode": unicodedata.unidata_version, **found}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def check(driver: Mapping[str, str]) -> None:
    """Compare this worker's origin with the driver's.

    Raises:
        WorkerError: it would write other bytes.
    """
    mine = origin(tuple(name for name in driver if name not in ("kilobatch's code", "Unicode")))
    for name, expected in driver.items():
        if mine[name] != expected:
            raise WorkerError(
                f"{name}: found {mine[name][:16]}, the command has {expected[:16]}; install the same on every worker"
            )
