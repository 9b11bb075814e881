"""Sources that Hugging Face `datasets` loads, from this machine; the Hub is asked for a commit only."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from pipeline.errors import InputError
from pipeline.files import read_json
from preprocess import sources
from preprocess.config import CorpusConfig, DatasetsSource
from preprocess.records import DeadLetter, Document, Item, Unit
from preprocess.run import run
from tests.preprocess.small import prose, small_config

COMMIT = "0123456789" * 4


def units(**settings: Any) -> list[Unit]:
    return sources.list_units([DatasetsSource(**settings)])


def items(**settings: Any) -> list[Item]:
    return [item for unit in units(**settings) for item in sources.read(unit)]


def texts(found: list[Item]) -> list[str]:
    return [item.text for item in found if isinstance(item, Document)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of three rows for training, one for validation."""
    for name in ("train-0", "train-1", "validation"):
        rows = [{"id": n, "title": "t", "text": f"{name} {n}", "url": f"https://{n}"} for n in range(3)]
        path = tmp_path / "data" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def test_a_folder_is_read_split_by_split_and_shard_by_shard(folder: Path) -> None:
    found = items(path=str(folder))
    assert texts(found) == [f"train-{file} {n}" for file in range(2) for n in range(3)]
    assert found[4] == Document("datasets/data#2.2:1", "datasets", "t", "train-1 1", "plain", {"url": "https://1"})
    assert [(unit.begin, unit.end) for unit in units(path=str(folder))] == [(0, 1), (1, 2)]
    assert texts(items(path=str(folder), split="validation")) == [f"validation {n}" for n in range(3)]
    assert len(items(path=str(folder), data_files=["train-1.jsonl"])) == 3


@pytest.mark.parametrize("loader", ["json", "csv", "parquet", "text"])
def test_loaders_of_datasets_read_the_files_that_they_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: str
) -> None:
    dataset = datasets.Dataset.from_dict({"body": ["a", "b, c"]})
    path = tmp_path / "rows"
    if loader == "text":
        path.write_text("a\nb, c\n")
    else:
        {"json": dataset.to_json, "csv": dataset.to_csv, "parquet": dataset.to_parquet}[loader](path)
    monkeypatch.chdir(tmp_path)
    column = "text" if loader == "text" else "body"
    assert texts(items(path=loader, data_files=["row*"], text=column)) == ["a", "b, c"]


def test_what_save_to_disk_left(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": [str(n) for n in range(10)]}).save_to_disk(tmp_path / "saved", num_shards=2)
    assert texts(items(path=str(tmp_path / "saved"))) == [str(n) for n in range(10)]
    assert len(units(path=str(tmp_path / "saved"))) == 2


def test_the_digest_is_that_of_the_files_and_not_of_where_they_lie(folder: Path, tmp_path: Path) -> None:
    before = units(path=str(folder))
    moved = folder.rename(tmp_path / "moved")
    (moved.parent / "data").symlink_to(moved)
    assert [unit.sha256 for unit in units(path=str(moved))] == [unit.sha256 for unit in before]
    file = moved / "train-1.jsonl"
    file.write_text(file.read_text().replace("t", "u", 1))
    assert units(path=str(moved))[0].sha256 != before[0].sha256
    assert units(path=str(moved), split="validation")[0].sha256 != before[0].sha256


def test_rows_without_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    document, letter = items(path=str(tmp_path))
    assert isinstance(document, Document)
    assert letter == DeadLetter(f"datasets/{tmp_path.name}#1.2", "read", "no-text", "the row's text is null", "")
    with pytest.raises(InputError, match=r"no column 'texts'; did you mean 'text'\?$"):
        items(path=str(tmp_path), text="texts")
    (tmp_path / "a.jsonl").write_text('{"text": 1}\n')
    with pytest.raises(InputError, match=r"column 'text' holds int; expected str$"):
        items(path=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "{}", "split": "valid"}, "no files of the split 'valid'; did you mean 'validation'"),
        ({"path": "{}", "config_name": "de"}, "datasets cannot load it: BuilderConfig 'de' not found"),
        ({"path": "{}", "data_files": ["*.none"]}, r"datasets cannot load it: No \(supported\) data files found"),
        ({"path": "{}", "revision": COMMIT}, "lies on this machine; revision is for names on the Hub"),
        ({"path": "{}/none"}, "no such folder, in source 'datasets'$"),
        ({"path": "json"}, "^json: a loader of datasets, in source 'datasets'; give it data_files$"),
        ({"path": "json", "data_files": ["/none/*.jsonl"]}, "^json: no files of the split 'train'"),
        ({"path": "json", "data_files": ["https://none.invalid/a"]}, "files on this machine|cannot load it"),
        ({"path": "owner/name"}, "no such folder, .* give its revision, a commit of 40 hexadecimal digits$"),
        ({"path": "owner/name", "revision": COMMIT}, "owner/name: datasets cannot load it: .*on the Hub"),
    ],
)
def test_datasets_that_cannot_be_loaded(folder: Path, settings: dict[str, Any], message: str) -> None:
    settings = {**settings, "path": settings["path"].format(folder)}
    with pytest.raises(InputError, match=message) as caught:
        items(**settings)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_one_line(folder: Path) -> None:
    with (folder / "train-1.jsonl").open("a") as file:
        file.write('{"text": "cut')
    with pytest.raises(InputError, match=rf"^{folder}: datasets cannot load it: JSON parse error: "):
        items(path=str(folder))


@pytest.mark.parametrize("revision", ["main", "0123456", COMMIT.upper()[:-1] + "g"])
def test_a_revision_is_a_commit(revision: str) -> None:
    with pytest.raises(ValueError, match="revision"):
        DatasetsSource(path="owner/name", revision=revision)


def test_torch_is_not_loaded(folder: Path) -> None:
    code = (
        "import sys; from preprocess import sources; from preprocess.config import DatasetsSource;"
        "print([len(list(sources.read(u))) for u in sources.list_units([DatasetsSource(path=sys.argv[1])])],"
        " 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[3, 3] False\n", "")


def test_a_corpus_of_a_dataset(tmp_path: Path) -> None:
    for n in range(2):
        rows = [{"body": prose(20 * n + row)} for row in range(20)]
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "data" / f"part-{n}.parquet")
    digests = set()
    for folder in ("data", "moved"):
        if folder == "moved":
            (tmp_path / "data").rename(tmp_path / "else")
            (tmp_path / "moved").mkdir()
            (tmp_path / "else").rename(tmp_path / "moved" / "data")
        path = tmp_path / ("data" if folder == "data" else "moved/data")
        source = {"type": "datasets", "path": str(path), "text": "body", "min_documents": 40}
        config: CorpusConfig = small_config(tmp_path, tmp_path / f"corpus-{folder}", sources=[source])
        manifest = read_json(run(config) / "manifest.json")
        digests.add(manifest["digest"])
        assert [entry["name"] for entry in manifest["inputs"]] == ["data"]
    assert len(digests) == 1
