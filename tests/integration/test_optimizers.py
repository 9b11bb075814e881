"""LAMB and Muon under every ZeRO stage on two ranks: the weights of one process without DeepSpeed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.checkpoints.checkpoint import Pieces
from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.configfile import dump_config, load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.initial import initial_model
from pipeline.engine.optim import build_optimizer, learning_rate
from pipeline.files import write_bytes
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.data import TrainBatches
from tests.conftest import PRETRAIN_YAML
from tests.ranks import run_ranks
from tests.tiny import tiny_corpus

STEPS = 3
SETTINGS = ["batch.train_batch_size=16", "batch.train_micro_batch_size_per_gpu=4", "schedule.total_steps=9"]
SETTINGS += ["model.hidden_size=16", "model.intermediate_size=48", "model.num_hidden_layers=2"]
SETTINGS += ["model.hidden_dropout_prob=0.0", "model.attention_probs_dropout_prob=0.0"]
# A large ε: else Adam's first update is the gradient's sign, which where that is zero is rounding. Clipped: the norm
# that clips is the gradient's, at every stage.
SETTINGS += ["optimizer.eps=1e-3", "optimizer.learning_rate=0.05", "optimizer.max_grad_norm=0.5"]
OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
ZERO: dict[str, dict[str, Any]] = {
    "zero0": {"stage": 0},
    "zero1": {"stage": 1},
    "zero2": {"stage": 2},
    "zero1-bf16": {"stage": 1},
    "zero2-fp16": {"stage": 2},
    "zero2-offload": {"stage": 2, **OFFLOAD},
    "zero3": {"stage": 3, "sub_group_size": 2000},
    "zero3-offload-bf16": {"stage": 3, "sub_group_size": 2000, **OFFLOAD},
}
KINDS = ("lamb", "muon")
PAIRS = [
    (kind, zero)
    for zero in ZERO
    for kind in KINDS
    if kind == "muon" or len(zero) == len("zero0") or zero in ("zero2-fp16", "zero3-offload-bf16")
]


def write_run(folder: Path, kind: str, zero: str, name: str) -> Path:
    """The resolved configuration of a run in a folder of its own."""
    path = folder / f"{zero}.json"
    halves = {half: {"enabled": zero.endswith(half)} for half in ("bf16", "fp16")}
    halves["fp16"]["initial_scale_power"] = 12
    path.write_text(json.dumps({"zero_optimization": ZERO[zero], **halves}))
    output = folder / name
    overrides = [*SETTINGS, f"optimizer.type={kind}", f"output={output}", f"deepspeed={path}"]
    overrides += ["optimizer.newton_schulz_dtype=bf16"] if (kind, zero) == ("muon", "zero1-bf16") else []
    config = load_config(PretrainConfig, folder / "pretrain.yaml", overrides)
    write_bytes(output / "config.yaml", dump_config(config).encode())
    return output


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The folder of runs of two ranks, all made by one start, and the last gradient's norm of each.

    `lamb-zero1` is three steps at stage 1; `lamb-stopped` the same with a stop after two.
    """
    folder = tmp_path_factory.mktemp("optimizers")
    corpus = tiny_corpus(folder / "corpus")
    (folder / "pretrain.yaml").write_text(PRETRAIN_YAML.format(corpus=corpus, output="run", deepspeed="zero.json"))
    arguments = []
    for kind in KINDS:
        stopped = write_run(folder, kind, "zero1", f"{kind}-stopped") / "config.yaml"
        arguments += [f"{stopped}:{STEPS - 1}", f"{stopped}:{STEPS}"]
    for kind, zero in PAIRS:
        arguments.append(f"{write_run(folder, kind, zero, f'{kind}-{zero}') / 'config.yaml'}:{STEPS}")
    printed = run_ranks(2, ["-m", "tests.integration.updates", *arguments])
    assert "untested" not in printed  # as DeepSpeed says of optimizers it does not know
    said = [line.split(" ") for line in printed.splitlines() if "config.yaml " in line]
    return folder, {Path(path).parent.name: float(norm) for path, norm in said}


def plain(config: PretrainConfig) -> tuple[dict[str, Tensor], float]:
    """The weights after the steps, and the last gradient's norm before clipping: whole batches, no DeepSpeed."""
    size = config.batch.train_batch_size
    model, norm = initial_model(config, Corpus(config.corpus)).train(), 0.0
    optimizer = build_optimizer(model, config.optimizer)
    for step, batch in enumerate(TrainBatches(config.corpus, config, BatchGeometry(size, size, 1))[range(STEPS)]):
        optimizer.zero_grad()
        loss = model(batch.input_ids, batch.sequences, batch.positions, batch.labels)
        (loss / len(batch.labels)).backward()
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.optimizer, config.schedule)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, norm


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_makes_the_weights_of_one_process(runs: tuple[Path, dict[str, float]], kind: str) -> None:
    folder, norms = runs
    config = load_config(PretrainConfig, folder / f"{kind}-zero0" / "config.yaml")
    expected, norm = plain(config)
    begun = {name: p.detach() for name, p in initial_model(config, Corpus(config.corpus)).named_parameters()}
    assert norm > 1.2 * config.optimizer.max_grad_norm  # it was clipped
    for zero in (zero for of, zero in PAIRS if of == kind):
        rounding = 0.3 if "bf16" in zero else 0.05 if "fp16" in zero else 1e-4
        assert norms[f"{kind}-{zero}"] == pytest.approx(norm, rel=1e-4 if rounding < 0.01 else rounding / 3)
        checkpoint = RunFolder(folder / f"{kind}-{zero}").checkpoint(STEPS)
        pieces = Pieces(checkpoint, verify_checkpoint(checkpoint))
        for name, weight in expected.items():
            moved = float((weight - begun[name]).abs().max())
            found = float((pieces.whole(name) - weight).abs().max())
            assert found <= rounding * moved, f"{zero} {name}: {found} of {moved}"


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_to_the_last_bit(runs: tuple[Path, dict[str, float]], kind: str) -> None:
    names = (f"{kind}-zero1", f"{kind}-stopped")
    whole, stopped = (verify_checkpoint(RunFolder(runs[0] / name).checkpoint(STEPS)) for name in names)
    assert whole["files"] == stopped["files"]
    assert whole["states"]["layers.0.up.weight"] == (["momentum"] if kind == "muon" else ["exp_avg", "exp_avg_sq"])
