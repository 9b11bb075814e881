"""Stages that remember: what is done again after a change, and that nothing unfinished or damaged is used."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.files import TEMPORARY, read_json
from preprocess import sink, stages, tokens
from preprocess.plan import Plan
from preprocess.run import run
from preprocess.sources import list_units
from tests.preprocess.small import small_config, write_raw


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder)
    return folder


@pytest.fixture(scope="module")
def kept(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages of a finished corpus."""
    folder = tmp_path_factory.mktemp("kept")
    run(small_config(raw, folder / "corpus", stages=str(folder / "stages")))
    return folder / "stages"


@pytest.fixture
def reused(kept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept, tmp_path / "stages")


def digest(corpus: Path) -> str:
    return str(read_json(corpus / "manifest.json")["digest"])


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


def made(errors: str) -> list[str]:
    """The stages that a run found finished, of what it printed."""
    return [line.partition(":")[0] for line in errors.splitlines() if "made by an earlier run" in line]


def test_a_folder_a_stage_and_none_beside_the_output(raw: Path, kept: Path, tmp_path: Path) -> None:
    assert names(kept) == ["documents", "tokenizer", "tokens"]
    run(small_config(raw, tmp_path / "corpus"))
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_documents_keep_what_they_say_of_where_they_come_from(kept: Path) -> None:
    wikipedia = sorted(kept.glob("documents-*/unit-*.parquet"))[-1]
    rows = pq.read_table(wikipedia, columns=["id", "meta"]).to_pylist()
    assert rows[0] == {"id": "wikipedia/wiki.xml.bz2#0", "meta": [("revision", "1")]}
    assert len(rows) == 12


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, ["documents", "tokenizer", "tokens"]),
        ({"shards": {"train": 2}, "packing": "doc-sentences"}, ["documents", "tokenizer", "tokens"]),
        ({"tokenizer": {"vocab_size": 401, "sample_characters": 40000}}, ["documents"]),
        ({"seed": 6}, ["documents"]),
        ({"filter": {"min_characters": 201}}, []),
    ],
)
def test_what_a_change_leaves_valid_is_not_done_again(
    raw: Path,
    reused: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    found: list[str],
) -> None:
    run(small_config(raw, tmp_path / "corpus", stages=str(reused), **changes))
    assert made(capsys.readouterr().err) == found
    fresh = small_config(raw, tmp_path / "fresh", **changes)
    assert digest(tmp_path / "corpus") == digest(run(fresh))


def test_inputs_and_code_are_part_of_the_key(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = shutil.copytree(raw, tmp_path / "moved")
    config = small_config(raw, tmp_path / "corpus")
    elsewhere = small_config(moved, tmp_path / "other", stages="anywhere")
    before = stages.key_of("documents", config, list_units(config.sources))
    assert stages.key_of("documents", elsewhere, list_units(elsewhere.sources)) == before
    (moved / "books" / "book-0.txt").write_text("other words", encoding="utf-8")
    assert stages.key_of("documents", elsewhere, list_units(elsewhere.sources)) != before
    monkeypatch.setattr(stages, "code", lambda: "another")
    assert stages.key_of("documents", config, list_units(config.sources)) != before


def test_a_damaged_stage_is_made_again(
    raw: Path, reused: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = next(reused.glob("tokens-*/unit-00000.tokens"))
    data = bytearray(tokens.read_bytes())
    data[0] ^= 1
    tokens.write_bytes(data)
    next(reused.glob("documents-*/unit-00000.parquet")).unlink()
    output = run(small_config(raw, tmp_path / "corpus", stages=str(reused)))
    errors = capsys.readouterr().err
    assert made(errors) == ["tokenizer"]
    assert errors.count("the stage is made again") == 2
    assert digest(output) == digest(run(small_config(raw, tmp_path / "fresh")))


def test_after_a_mistake_only_what_follows_from_it_is_done_again(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="at most"):
        run(small_config(raw, tmp_path / "corpus", tokenizer={"vocab_size": 30000, "sample_characters": 40000}))
    assert names(tmp_path / "corpus.stages") == ["documents"]
    assert "corpus.stages: keeps documents-" in capsys.readouterr().err
    run(small_config(raw, tmp_path / "corpus"))
    assert made(capsys.readouterr().err) == ["documents"]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_after_a_kill_finished_stages_are_found_and_nothing_else(
    raw: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config(raw, tmp_path / "corpus")
    (tmp_path / "config.yaml").write_text(config.model_dump_json())  # JSON is YAML
    command = [sys.executable, "-m", "launch.cli", "preprocess", str(tmp_path / "config.yaml")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(f"corpus.stages/{TEMPORARY}tokenizer-*/*/tokenizer/unit-*.parquet")):
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "corpus").exists()
    run(config)
    assert made(capsys.readouterr().err) == ["documents"]
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "config.yaml"}
    assert digest(tmp_path / "corpus") == digest(kept.parent / "corpus")


def test_two_runs_do_not_make_the_same_stage_at_once(raw: Path, tmp_path: Path) -> None:
    config = small_config(raw, tmp_path / "corpus", stages=str(tmp_path / "stages"))
    (tmp_path / "config.yaml").write_text(config.model_dump_json())
    command = [sys.executable, "-m", "launch.cli", "preprocess", str(tmp_path / "config.yaml")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(f"stages/{TEMPORARY}documents-*/*/documents/unit-*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    with pytest.raises(InputError, match="another run is writing it now"):
        run(config.model_copy(update={"output": tmp_path / "other"}))
    assert process.wait() == 0


def test_what_killed_workers_left_is_in_no_stage_and_no_corpus(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies within a task leaves the file that it was writing; another one does the task."""
    plain = run(small_config(raw, tmp_path / "plain"))
    write_tokens, write_one_shard = tokens.write_tokens, sink.write_one_shard

    def leave_tokens(number: int, work: str, *more: object) -> int:
        (Plan.load(work).folders["tokens"] / f"{TEMPORARY}1-unit-00000.tokens").write_bytes(b"half")
        return write_tokens(number, work, *more)  # type: ignore[arg-type]

    def leave_a_shard(group: object, work: str) -> int:
        left = Plan.load(work).corpus / f"{TEMPORARY}1-train-00000-of-00002"
        left.mkdir(exist_ok=True)
        (left / "train-00000-of-00002.tokens").write_bytes(b"half")
        return write_one_shard(group, work)  # type: ignore[arg-type]

    monkeypatch.setattr(tokens, "write_tokens", leave_tokens)
    monkeypatch.setattr(sink, "write_one_shard", leave_a_shard)
    corpus = run(small_config(raw, tmp_path / "corpus", stages=str(tmp_path / "stages")))
    assert digest(corpus) == digest(plain)
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))


def test_a_stage_without_its_manifest_is_made_again(raw: Path, reused: Path, tmp_path: Path) -> None:
    folder = next(reused.glob("tokens-*"))
    (folder / "manifest.json").unlink()
    run(small_config(raw, tmp_path / "corpus", stages=str(reused)))
    assert (folder / "manifest.json").exists()
