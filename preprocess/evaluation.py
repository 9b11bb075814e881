"""Evaluation texts that must not be in a corpus: their word n-grams, hashed into one sorted file for all tasks.

A plain file is one text; of JSON and JSON lines every string is one, whatever its key. Texts shorter than an n-gram are
not looked for: as a whole they would be found in what has nothing to do with them.
"""

import sys
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from pipeline.corpus.shards import map_index
from pipeline.errors import DigestError, InputError
from pipeline.files import atomic_path, file_sha256
from preprocess import nested_json, sources
from preprocess.clean import clean
from preprocess.clean.errors import UncleanableError
from preprocess.config import CleanConfig, DecontaminateConfig, TextSource
from preprocess.ngrams import Hashes, ngram_hashes
from preprocess.records import Unit
from preprocess.sources.compressed import open_stream

NAME = "filter.decontaminate"  # of the inputs, in the manifest
_FILE_SHIFT = np.uint64(40)  # a place is the file's number and, below these bits, the line


def list_files(config: DecontaminateConfig | None) -> list[Unit]:
    """The evaluation files, sorted by name.

    Raises:
        InputError: a file that is missing, empty, or a glob that matches nothing.
    """
    return sources.list_units([TextSource(name=NAME, paths=config.paths)]) if config else []


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _decoded(data: bytes, is_json: bool, place: str) -> list[str]:
    """The texts of a file, or of a line of one.

    Raises:
        InputError: not UTF-8, or not JSON.
    """
    try:
        return list(_strings(nested_json.loads(data.decode("utf-8-sig")))) if is_json else [data.decode("utf-8")]
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8: {error.reason}") from None
    except ValueError as error:
        raise InputError(f"{place}: not JSON: {error}") from None


def _texts(file: Unit) -> Iterator[tuple[int, str]]:
    """(line, text) of each text of a file; 0 where it is not of a line.

    Raises:
        InputError: not UTF-8, not JSON, or damaged.
    """
    suffixes = PurePosixPath(file.name).suffixes
    with open_stream(file.path) as (stream, _):
        if ".jsonl" in suffixes:
            for line, data in enumerate(stream, 1):
                if data.strip():
                    yield from ((line, text) for text in _decoded(data, True, f"{file.path}:{line}"))
        else:
            yield from ((0, text) for text in _decoded(stream.read(), ".json" in suffixes, file.path))


def _cleaned(text: str, cleaning: CleanConfig | None, place: str) -> str:
    """A text as it would be in the corpus, so that it is found there.

    Raises:
        InputError: it cannot be cleaned.
    """
    try:
        return clean(text, "plain", cleaning).text
    except UncleanableError as error:
        raise InputError(f"{place}: {error}") from None


def _hashes(text: str, n: int) -> Hashes:
    """Of a cleaned text's n-grams, blind to case and to what Unicode calls compatible: ﬁ is fi, Ａ is A."""
    return ngram_hashes(unicodedata.normalize("NFKC", text), n)


def write_ngrams(files: list[Unit], n: int, path: Path, cleaning: CleanConfig | None = None) -> str:
    """Write the hashes of all n-grams of the files, and where each is; returns the SHA-256 of what was written.

    Args:
        cleaning: how the corpus is cleaned.

    Raises:
        InputError: a file that cannot be read or cleaned, or no text of n words.
    """
    hashes, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    short = 0
    for number, file in enumerate(files):
        for line, text in _texts(file):
            place = f"{file.path}:{line}" if line else file.path
            found = _hashes(_cleaned(text, cleaning, place), n)
            short += not len(found)
            hashes.append(found)
            places.append(np.full(len(found), (number << int(_FILE_SHIFT)) | line, np.uint64))
    distinct, first = np.unique(np.concatenate(hashes), return_index=True)
    if not len(distinct):
        raise InputError(f"{NAME}: no text of {n} words in {len(files)} files")
    print(
        f"evaluation: {len(distinct):,} {n}-grams of {len(hashes) - 1 - short:,} texts;"
        f" {short:,} shorter texts are not looked for",
        file=sys.stderr,
    )
    with atomic_path(path) as temporary:
        save_file({"hashes": distinct, "places": np.concatenate(places)[first]}, temporary)
    return file_sha256(path)


class Shared(NamedTuple):
    """n words in a row that a text and an evaluation file have: the first one's number in the text, file and line."""

    word: int
    file: int
    line: int


class Ngrams:
    """The n-grams of evaluation texts, memory-mapped, and which leading bits their hashes have: few are looked up."""

    def __init__(self, path: Path) -> None:
        arrays = map_index(path)
        self.hashes: Hashes = arrays["hashes"]
        self.places: Hashes = arrays["places"]
        bits = min(26, len(self.hashes).bit_length() + 4)  # one in sixteen is set; 64 MB at most
        self._shift = np.uint64(64 - bits)
        self._leading = np.zeros(1 << bits, bool)
        self._leading[self.hashes >> self._shift] = True

    def first_in(self, text: str, n: int) -> Shared | None:
        """The first n words of a cleaned text that an evaluation text has too."""
        hashes = _hashes(text, n)
        likely = np.flatnonzero(self._leading[hashes >> self._shift])
        at = np.searchsorted(self.hashes, hashes[likely])
        at[at == len(self.hashes)] = 0
        equal = np.flatnonzero(self.hashes[at] == hashes[likely])
        if not len(equal):
            return None
        place = int(self.places[at[equal[0]]])
        return Shared(int(likely[equal[0]]), place >> int(_FILE_SHIFT), place & ((1 << int(_FILE_SHIFT)) - 1))


@lru_cache(maxsize=1)
def load(path: str, sha256: str) -> Ngrams:
    """The n-grams that the driver wrote, once a process.

    Raises:
        DigestError: they are not what it wrote.
    """
    found = file_sha256(Path(path))
    if found != sha256:
        raise DigestError(f"{path}: SHA-256 {found}, expected {sha256}")
    return Ngrams(Path(path))
