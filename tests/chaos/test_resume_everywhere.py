"""A run goes on from the checkpoint of any of its 50 steps as if it had never stopped, bit for bit, at every stage."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoints.run_folder import RunFolder
from tests.chaos import forked
from tests.chaos.resume_everywhere import again_from_every_step
from tests.chaos.runs import end_of, logged, resolved
from tests.tiny import tiny_corpus

STEPS = 50
SETTINGS = ["checkpoint.every_steps=1", f"checkpoint.keep_last={STEPS}", "batch.train_batch_size=8"]
SETTINGS += [f"evaluation.every_steps={STEPS}"]
STAGES = {stage: {"zero_optimization": {"stage": stage}} for stage in range(4)}
STAGES[3]["zero_optimization"]["stage3_param_persistence_threshold"] = 100  # some parameters stay gathered
BF16 = {"bf16": {"enabled": True}}
# the scale doubles after two sound steps, and overflows many times
FP16 = {"fp16": {"enabled": True, "initial_scale_power": 18, "loss_scale_window": 2, "hysteresis": 1}}


def whole_run(folder: Path, deepspeed: dict[str, Any], steps: int) -> Path:
    """A run of two ranks on tensors that they cannot share equally, with a checkpoint a step; its configuration."""
    settings = [*SETTINGS, f"schedule.total_steps={steps}"]
    config = resolved(tiny_corpus(folder / "corpus", vocab_size=63), folder / "whole", deepspeed, settings)
    ended = forked.start(config, 2).finish()
    assert ended.codes == [0, 0], ended
    return config


def goes_on_from_every_step(folder: Path, deepspeed: dict[str, Any], steps: int = STEPS) -> None:
    ended = forked.start(whole_run(folder, deepspeed, steps), 2, work=again_from_every_step).finish()
    assert ended.codes == [0, 0], ended
    assert all(f"{steps} steps, all the same" in said for said in ended.said), ended


def test_goes_on_from_every_step(tmp_path: Path) -> None:
    goes_on_from_every_step(tmp_path, STAGES[2] | BF16, steps=20)


@pytest.mark.chaos
@pytest.mark.parametrize("stage", STAGES)
def test_goes_on_from_every_step_in_fp32(tmp_path: Path, stage: int) -> None:
    goes_on_from_every_step(tmp_path, STAGES[stage])


@pytest.mark.chaos
@pytest.mark.parametrize("stage", [1, 2, 3])  # there is none at 0
def test_goes_on_from_every_step_in_bf16(tmp_path: Path, stage: int) -> None:
    goes_on_from_every_step(tmp_path, STAGES[stage] | BF16)


@pytest.mark.chaos
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_goes_on_from_every_step_in_fp16(tmp_path: Path, stage: int) -> None:
    goes_on_from_every_step(tmp_path, STAGES[stage] | FP16)
    assert any(line["event"] == "overflow" for line in logged(tmp_path / "whole"))


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_processes_started_at_every_step_end_alike(tmp_path: Path) -> None:
    """As above, by processes that begin with nothing but the checkpoint and go through to the end."""
    config = whole_run(tmp_path, STAGES[1], STEPS)
    whole, wrong = RunFolder(config.parent), []
    for step in range(1, STEPS):
        again = RunFolder(tmp_path / f"from-{step}")
        settings = [*SETTINGS, f"schedule.total_steps={STEPS}", f"checkpoint.every_steps={STEPS}"]
        path = resolved(tmp_path / "corpus", again.path, STAGES[1], settings)
        shutil.copytree(whole.checkpoint(step), again.checkpoint(step), copy_function=os.link)
        ended = forked.start(path, 2).finish()
        assert ended.codes == [0, 0], ended
        same = end_of(again.path, STEPS)["files"] == end_of(whole.path, STEPS)["files"]
        wrong += [step] * (not same)
        shutil.rmtree(again.path)
    assert not wrong
