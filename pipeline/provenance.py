"""provenance.json: what a model's folder says of itself, and whether its files still are what it names. No torch."""

from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from pipeline.errors import DigestError
from pipeline.files import FileEntry, check_form, file_sha256, read_json, verify_files

PROVENANCE = "provenance.json"
TOKENIZER = "tokenizer.json"


class _Tokenizer(TypedDict):
    fingerprint: NotRequired[str]  # SHA-256 of tokenizer.json


class _Provenance(TypedDict):
    """What is read of it by those who have only the folder."""

    files: NotRequired[dict[str, FileEntry]]
    tokenizer: NotRequired[_Tokenizer]
    recipe: NotRequired[dict[str, Any]]


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """What a folder says of itself; None if it says nothing.

    Raises:
        InputError: it is not what `kilobatch export` or `finetune` writes.
    """
    path = folder / PROVENANCE
    if not path.is_file():
        return None
    provenance = read_json(path)
    check_form(path, provenance, _Provenance)
    return provenance


def verify_provenance(folder: Path) -> dict[str, Any] | None:
    """The same, after the folder's files were compared with it (laws 4 and 5).

    Raises:
        InputError: as `read_provenance`. DigestError: the tokenizer or another file is not what it names.
    """
    provenance = read_provenance(folder)
    if provenance is None:
        return None
    expected = provenance.get("tokenizer", {}).get("fingerprint")
    if expected is not None and (folder / TOKENIZER).is_file():  # that it is there, `files` says
        found = file_sha256(folder / TOKENIZER)
        if expected != found:
            raise DigestError(f"{folder / TOKENIZER}: SHA-256 {found}, {folder / PROVENANCE} names {expected}")
    verify_files(folder, provenance.get("files", {}))
    return provenance
