"""What a model folder says of itself: compared with its files, and one line where it is not what we write."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DigestError, InputError
from pipeline.files import describe_files, file_sha256
from pipeline.provenance import PROVENANCE, read_provenance, verify_provenance


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"files": []}, "files"),
        ({"files": {"config.json": {"bytes": 2}}}, "files.config.json.sha256"),
        ({"files": {"config.json": "0" * 64}}, "files.config.json"),
        ({"tokenizer": "0" * 64}, "tokenizer"),
        ({"tokenizer": {"fingerprint": 7}}, "tokenizer.fingerprint"),
    ],
)
def test_what_is_not_ours_is_one_line(tmp_path: Path, value: dict[str, Any], place: str) -> None:
    (tmp_path / PROVENANCE).write_text(json.dumps(value))
    with pytest.raises(InputError, match=rf"{PROVENANCE}: {place}: .*; another program wrote it$"):
        read_provenance(tmp_path)


def test_files_and_tokenizer_are_compared(tmp_path: Path) -> None:
    assert verify_provenance(tmp_path) is None
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    said = {"files": describe_files(tmp_path, ["config.json"])}
    said["tokenizer"] = {"fingerprint": file_sha256(tmp_path / "tokenizer.json")}
    (tmp_path / PROVENANCE).write_text(json.dumps(said))
    assert verify_provenance(tmp_path) == said
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_text("[]")
        with pytest.raises(DigestError, match=name):
            verify_provenance(tmp_path)
        (tmp_path / name).write_text("{}")
    (tmp_path / "config.json").unlink()
    with pytest.raises(DigestError, match=r"config\.json: missing"):
        verify_provenance(tmp_path)


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "model"
    folder.mkdir()
    entry = describe_files(tmp_path, ["secret"])
    (folder / PROVENANCE).write_text(json.dumps({"files": {"../secret": entry["secret"]}}))
    with pytest.raises((DigestError, InputError), match=r"\.\./secret"):
        verify_provenance(folder)
