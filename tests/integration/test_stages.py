"""Every ZeRO stage, precision and number of ranks: checkpoints pass between all of them, and each goes on from its own.

A process makes several engines, since a start costs seconds; stage 3 changes it for good and comes last.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoints.checkpoint import Pieces, load_weights
from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.configfile import dump_config, load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.initial import initial_model
from pipeline.evaluate import HeldOut
from pipeline.files import write_bytes
from pipeline.pretrain_config import PretrainConfig
from tests.ranks import run_ranks
from tests.tiny import tiny_corpus

OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
BF16 = {"bf16": {"enabled": True}}


def fp16(power: int) -> dict[str, Any]:
    """With a loss scale that begins at 2 to the `power`."""
    return {"fp16": {"enabled": True, "initial_scale_power": power, "loss_scale_window": 1, "hysteresis": 1}}


KINDS: dict[str, dict[str, Any]] = {
    "zero0": {},
    "zero1": {"zero_optimization": {"stage": 1}},
    "zero2-offload": {"zero_optimization": {"stage": 2, **OFFLOAD}},
    "zero1-bf16": {"zero_optimization": {"stage": 1}, **BF16},
    "zero2-bf16": {"zero_optimization": {"stage": 2}, **BF16},
    "zero2-fp16-offload": {"zero_optimization": {"stage": 2, **OFFLOAD}, **fp16(12)},
    "zero3": {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 100}},  # some gathered for good
    "zero3-bf16-offload": {"zero_optimization": {"stage": 3, "sub_group_size": 500, **OFFLOAD}, **BF16},
}
OVERFLOWING = {"zero1-fp16": {"zero_optimization": {"stage": 1}, **fp16(20)}}  # in the first steps
SETTINGS = ["schedule.total_steps=4", "batch.train_batch_size=8", "batch.train_micro_batch_size_per_gpu=2"]
SETTINGS += ["checkpoint.every_steps=2", "evaluation.every_steps=4", "evaluation.samples=7"]
SETTINGS += ["loader_workers=0", "evaluation.micro_batch_size=3", "optimizer.learning_rate=0.1"]


@pytest.fixture
def uneven(pretrain_yaml: Path, tmp_path: Path) -> Path:
    """A parameter with an odd number of elements, which no two ranks share equally."""
    corpus = tiny_corpus(tmp_path / "uneven", vocab_size=63)
    pretrain_yaml.write_text(pretrain_yaml.read_text().replace(str(tmp_path / "corpus"), str(corpus)))
    return pretrain_yaml


def configs(config: Path, folder: Path, kinds: list[str]) -> list[str]:
    """A resolved configuration for each kind, whose run is `folder`/kind."""
    folder.mkdir()
    paths = []
    for name in kinds:
        settings = config.parent / f"{name}.json"
        settings.write_text(json.dumps((KINDS | OVERFLOWING)[name]))
        loaded = load_config(PretrainConfig, config, [*SETTINGS, f"output={folder / name}", f"deepspeed={settings}"])
        write_bytes(loaded.output / "config.yaml", dump_config(loaded).encode())
        paths.append(str(loaded.output / "config.yaml"))
    return paths


def tensors(run: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A checkpoint's manifest, and every state of every parameter."""
    folder = RunFolder(run).checkpoint(1)
    manifest = verify_checkpoint(folder)
    pieces, found = Pieces(folder, manifest), {}
    for name, shape in pieces.shapes.items():
        for state in ("weight", *pieces.states[name]):
            found[f"{state}/{name}"] = torch.empty(torch.Size(shape).numel())
            pieces.read_into(state, name, 0, found[f"{state}/{name}"])
    return manifest, found


def overflows(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that tell of one."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "overflow"]


def held_out_loss(config: Path, run: Path) -> float:
    """Of a checkpoint's weights in plain PyTorch, fp32."""
    loaded = load_config(PretrainConfig, config, SETTINGS)
    corpus, folder = Corpus(loaded.corpus), RunFolder(run).checkpoint(1)
    model = initial_model(loaded, corpus)
    load_weights(folder, verify_checkpoint(folder), model)
    held_out = HeldOut(corpus, loaded.batch.sequence_length, loaded.evaluation)
    return held_out.scores(model, torch.device("cpu")).loss


def test_a_checkpoint_of_any_stage_precision_and_world_size_loads_at_any_other(uneven: Path, tmp_path: Path) -> None:
    kinds = list(KINDS)
    made = tmp_path / "made"
    said = {2: run_ranks(2, ["-m", "tests.integration.pass_on", "", *configs(uneven, made, kinds)])}
    sources = " ".join(str(made / name) for name in kinds)
    others = tmp_path / "others"
    said[1] = run_ranks(1, ["-m", "tests.integration.pass_on", sources, *configs(uneven, others, kinds)])
    for source in kinds:
        saved, expected = tensors(made / source)
        assert saved["updates"] == 1
        assert (saved["loss_scale"] is not None) == ("fp16" in source)
        loss = held_out_loss(uneven, made / source)
        for target in kinds:
            for world_size, folder in ((2, made), (1, others)):
                passed_on, found = tensors(folder / target / source)
                assert passed_on["updates"] == 1
                if "fp16" in source and "fp16" in target:
                    assert passed_on["loss_scale"] == saved["loss_scale"]
                assert found.keys() == expected.keys()
                for name, tensor in found.items():
                    assert torch.equal(tensor, expected[name]), (source, target, world_size, name)
                (line,) = [s for s in said[world_size].splitlines() if s.startswith(f"{target} {source} ")]
                rounding = 1e-3 if "16" in target else 1e-6  # an update changes it by 3e-2
                assert float(line.split()[2]) == pytest.approx(loss, rel=rounding), (source, target, world_size)


def test_every_stage_goes_on_bit_identical(uneven: Path, tmp_path: Path) -> None:
    kinds = [name for name in [*OVERFLOWING, *KINDS] if name != "zero1"]  # tests/integration/test_resume.py has that
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run_ranks(2, ["-m", "tests.integration.several", *configs(uneven, whole, kinds)])
    paths = configs(uneven, resumed, kinds)
    for name in kinds:
        step = RunFolder(whole / name).checkpoint(2)
        shutil.copytree(step, RunFolder(resumed / name).checkpoint(2))
    run_ranks(2, ["-m", "tests.integration.several", *paths])
    for name in kinds:
        ends = [RunFolder(folder / name).checkpoint(4) for folder in (whole, resumed)]
        expected, found = [verify_checkpoint(end) for end in ends]
        assert len(expected["files"]) == 2
        assert found["files"] == expected["files"], name
        assert found["loss_scale"] == expected["loss_scale"], name
    tried = [line["loss_scale"] for line in overflows(whole / "zero1-fp16")]
    assert tried[:3] == [2**20, 2**19, 2**18]  # one of them behind the checkpoint, where the other run went on
    assert [line for line in overflows(whole / "zero1-fp16") if line["step"] > 2] == overflows(resumed / "zero1-fp16")
    last = verify_checkpoint(RunFolder(whole / "zero1-fp16").checkpoint(4))
    assert (last["loss_scale"]["overflows"], last["updates"]) == (len(tried), 4 - len(tried))
