"""What an export says of itself, and who can read it; that it is the same function, tests/integration looks at."""

import shutil
from pathlib import Path

import pytest

from pipeline import export
from pipeline.configfile import load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.model import MaskedLM
from pipeline.errors import InputError
from pipeline.files import MANIFEST, read_json, seal, write_json
from pipeline.pretrain_config import PretrainConfig

SOURCES = [{"name": "wiki", "type": "wikipedia", "license": "CC BY-SA 3.0", "attribution": "those | who\nwrote it"}]


@pytest.fixture
def written(pretrain_yaml: Path, corpus: Path, tmp_path: Path) -> Path:
    """An export of a model of random weights."""
    told = {"config": {"sources": SOURCES}, "counts": {"sources": {"wiki": {"tokens": 12345}}}}
    write_json(corpus / MANIFEST, seal({**read_json(corpus / MANIFEST), **told}))
    config, opened = load_config(PretrainConfig, pretrain_yaml), Corpus(corpus)
    counters = {"step": 3, "consumed_samples": 24, "consumed_tokens": 384}
    settings = config.model_dump(mode="json")
    settings["model"]["init_from"] = {"folder": str(tmp_path), "sha256": "facade"}
    stamps = {"digest": "c0ffee", "recipe": config.recipe(), "versions": {}, "config": settings}
    manifest = {**counters, **stamps, "deepspeed": {"bf16": {"enabled": True}}}
    folder = tmp_path / "exported"
    export._write(folder, MaskedLM(config.model, opened.vocab_size), config, opened, manifest)
    return folder


def test_it_tells_no_place_on_the_machine(written: Path, tmp_path: Path) -> None:
    for path in written.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    told = read_json(written / "provenance.json")["config"]
    assert told["batch"]["train_batch_size"] == 8
    assert told["model"]["init_from"] == {"sha256": "facade"}


def test_who_can_read_one_file_can_read_all(written: Path) -> None:
    assert {path.stat().st_mode for path in written.iterdir()} == {(written / "config.json").stat().st_mode}


def test_the_card_says_what_it_was_trained_on_and_how(written: Path) -> None:
    card = (written / "README.md").read_text(encoding="utf-8")
    assert "| wiki | 12,345 | CC BY-SA 3.0 | those \\| who wrote it |" in card
    assert "| steps | 3 of 10 that were planned |" in card
    assert "| precision | bf16 |" in card


def test_another_folder_than_a_runs_is_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"corpus: expected the folder of a run, which has config\.yaml"):
        export.export(corpus, tmp_path / "model")


def test_a_corpus_that_was_moved_is_asked_for(pretrain_yaml: Path, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(pretrain_yaml, run / "config.yaml")
    corpus.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"corpus: no such folder; if .* name it by --corpus"):
        export.export(run, tmp_path / "model")
