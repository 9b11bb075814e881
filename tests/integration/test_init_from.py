"""A run that goes on from a Hugging Face model: its first loss is that model's, and it knows whose weights began."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from launch import local
from pipeline.checkpoints.run_folder import RunFolder, check_provenance, identity, verify_checkpoint
from pipeline.configfile import load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.initial import initial_model, load_start
from pipeline.errors import InputError
from pipeline.evaluate import HeldOut
from pipeline.pretrain_config import PretrainConfig
from tests.conftest import flip_byte
from tests.ranks import forked_ranks, pretrain
from tests.their_models import their_model


def test_a_run_goes_on_from_a_model_and_needs_it_once(
    pretrain_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = their_model(tmp_path / "model")
    settings = [f"model={{init_from: {folder}}}", "schedule.total_steps=2", "loader_workers=0"]
    said = pretrain(pretrain_yaml, 1, [*settings, "stop_at_step=1"], expected=75)
    assert f"begins with the weights of {folder}, which has no tokenizer" in said

    config = load_config(PretrainConfig, pretrain_yaml, settings)
    corpus, run = Corpus(config.corpus), RunFolder(config.output)
    model = initial_model(config, corpus)
    load_start(model, config.model)
    first = json.loads(run.metrics.read_text().splitlines()[0])
    held_out = HeldOut(corpus, config.batch.sequence_length, config.evaluation)
    assert first["loss"] == pytest.approx(held_out.scores(model, torch.device("cpu")).loss, rel=1e-6)

    manifest = verify_checkpoint(run.checkpoint(1))
    check_provenance(manifest, identity(config, corpus), run.checkpoint(1))
    flip_byte(folder / "model.safetensors", -1)
    changed = identity(load_config(PretrainConfig, pretrain_yaml, settings), corpus)
    with pytest.raises(InputError, match=r"was trained with model\.init_from = \w{64}, the configuration says \w{64}$"):
        check_provenance(manifest, changed, run.checkpoint(1))

    shutil.rmtree(folder)
    resolved = run.config.read_text().replace("stop_at_step: 1", "stop_at_step: null")
    run.config.write_text(resolved)
    assert local.pretrain(load_config(PretrainConfig, run.config), dry_run=True) == 0
    assert "weights of the checkpoint of step 1" in " ".join(capsys.readouterr().out.split())
    assert "begins with" not in forked_ranks(run.config, 1)
    assert run.steps() == [1, 2]
