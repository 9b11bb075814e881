"""Runs that stop and go on: bit-identical at the same world size, sample for sample at another (laws 1 and 4)."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.checkpoints.checkpoint import Pieces
from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.files import TEMPORARY
from tests.conftest import PRETRAIN_YAML, flip_byte
from tests.ranks import pretrain
from tests.tiny import tiny_corpus

SETTINGS = ["schedule.total_steps=6", "batch.train_batch_size=16", "batch.train_micro_batch_size_per_gpu=2"]
SETTINGS += [
    "evaluation.every_steps=3",
    "checkpoint.every_steps=2",
    "checkpoint.keep_last=9",
    "optimizer.learning_rate=1e-2",
]


def run_of(folder: Path) -> list[str]:
    return [*SETTINGS, f"output={folder}"]


def files(run: Path, step: int) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint."""
    manifest = verify_checkpoint(RunFolder(run).checkpoint(step))
    return {name: entry["sha256"] for name, entry in manifest["files"].items()}


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    folder = RunFolder(run).checkpoint(step)
    pieces = Pieces(folder, verify_checkpoint(folder))
    return {name: pieces.whole(name) for name in pieces.shapes}


def bytes_a_parameter(run: Path, step: int) -> float:
    """On disk, over all files, without their headers."""
    folder = RunFolder(run).checkpoint(step)
    manifest = verify_checkpoint(folder)
    parameters = sum(torch.Size(shape).numel() for shape in manifest["tensors"].values())
    data = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            data += path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")
    return data / parameters


def losses(run: Path) -> list[tuple[str, int, float]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["event"], line["step"], line["loss"]) for line in lines]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all runs of this file have in common, beside their corpus."""
    folder = tmp_path_factory.mktemp("resume")
    corpus, deepspeed, config = tiny_corpus(folder / "corpus"), folder / "deepspeed.json", folder / "pretrain.yaml"
    deepspeed.write_text('{"zero_optimization": {"stage": 1}}')
    config.write_text(PRETRAIN_YAML.format(corpus=corpus, output=folder / "run", deepspeed=deepspeed))
    return config


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    pretrain(config, 2, run_of(config.parent / "whole"))
    return config.parent / "whole"


@pytest.fixture
def uninterrupted(whole: Path, tmp_path: Path) -> Path:
    """A run that the test may damage."""
    return shutil.copytree(whole, tmp_path / "whole")


def test_stopped_resumed_and_at_other_world_sizes(config: Path, tmp_path: Path, uninterrupted: Path) -> None:
    same = tmp_path / "same"
    always = [*run_of(same), "checkpoint.every_minutes=1e-9"]  # the loop changes what is being written
    output = pretrain(config, 2, [*always, "stop_at_step=3"], expected=75)
    assert "stopped after step 3 of 6" in output
    assert RunFolder(same).steps() == [1, 2, 3]
    pretrain(config, 2, always)
    assert RunFolder(same).steps() == [1, 2, 3, 4, 5, 6]
    assert files(same, 2) == files(uninterrupted, 2)
    assert files(same, 6) == files(uninterrupted, 6)  # weights and moments, bit for bit
    assert losses(same) == losses(uninterrupted)

    assert bytes_a_parameter(same, 6) == 12

    other = shutil.copytree(uninterrupted, tmp_path / "other")  # 2 → 1 → 2
    for step in (4, 6):
        shutil.rmtree(RunFolder(other).checkpoint(step))
    pretrain(config, 1, [*run_of(other), "stop_at_step=4"], expected=75)
    pretrain(config, 2, run_of(other))
    assert list(files(other, 4)) == ["rank-00000.safetensors"]
    for (kind, step, loss), (expected_kind, expected_step, expected) in zip(
        losses(other), losses(uninterrupted), strict=True
    ):
        assert (kind, step) == (expected_kind, expected_step)
        assert loss == pytest.approx(expected, rel=1e-5)
    expected_weights = weights(uninterrupted, 6)
    for name, weight in weights(other, 6).items():
        torch.testing.assert_close(weight, expected_weights[name], atol=2e-5, rtol=1e-4)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    config: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    unfinished = RunFolder(uninterrupted).checkpoints / f"{TEMPORARY}step-00000099"  # of a killed run
    unfinished.mkdir()
    whole = files(uninterrupted, 6)
    damaged = RunFolder(uninterrupted).checkpoint(6) / "rank-00001.safetensors"
    flip_byte(damaged, damaged.stat().st_size // 2)
    output = pretrain(config, 2, run_of(uninterrupted))
    assert f"passed over: {damaged}: SHA-256 " in output
    assert f"expected {whole['rank-00001.safetensors']}" in output
    assert files(uninterrupted, 6) == whole  # made again, and the same
    assert not unfinished.exists()
    assert (RunFolder(uninterrupted).checkpoints / "broken-step-00000006").is_dir()
    flip_byte(damaged, damaged.stat().st_size // 2)
    pretrain(config, 2, [*run_of(uninterrupted), "stop_at_step=5", "checkpoint.keep_last=1"], expected=75)
    # the one just saved and the newest that a roll-back may go to, not the broken one with the higher number
    assert RunFolder(uninterrupted).steps() == [4, 5]
    for step in RunFolder(uninterrupted).steps():
        flip_byte(RunFolder(uninterrupted).checkpoint(step) / "manifest.json", 5)
    output = pretrain(config, 1, run_of(uninterrupted), expected=3)
    assert "manifest.json" in output
    assert "Traceback" not in output


def test_another_corpus_or_recipe_is_refused_with_both_sides(config: Path, tmp_path: Path, uninterrupted: Path) -> None:
    other = tiny_corpus(tmp_path / "other-corpus", seed=1)
    output = pretrain(config, 1, [*run_of(uninterrupted), f"corpus={other}"], expected=2)
    assert "its corpus_digest is" in output
    output = pretrain(config, 1, [*run_of(uninterrupted), "optimizer.weight_decay=0.5"], expected=2)
    assert "was trained with optimizer.weight_decay = 0.01, the configuration says 0.5" in output


def test_must_resume_without_a_checkpoint(config: Path, tmp_path: Path) -> None:
    output = pretrain(config, 1, [*run_of(tmp_path / "run"), "resume=must"], expected=2)
    assert "no checkpoint, and resume is 'must'" in output


def test_a_run_is_never_begun_anew_over_its_checkpoints(config: Path, tmp_path: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "metrics.jsonl").read_text()
    output = pretrain(config, 1, [*run_of(uninterrupted), "resume=never"], expected=2)
    assert "has checkpoints, and resume is 'never'" in output
    assert (uninterrupted / "metrics.jsonl").read_text() == before
