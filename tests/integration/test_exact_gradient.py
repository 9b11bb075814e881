"""Law 2: an update is the gradient of the sum of token losses over the number of predicted tokens of the whole batch.

Adam's first moment after one step is (1 − β₁)·gradient, so a saved checkpoint shows the gradient that was applied.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoints.checkpoint import Pieces
from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.configfile import dump_config, load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.model import MaskedLM
from pipeline.engine.deepspeed_json import stage_of
from pipeline.engine.optim import adamw, learning_rate
from pipeline.files import write_bytes
from pipeline.keyed import derive
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.data import TrainBatches
from tests.ranks import run_ranks

Tensors = dict[str, torch.Tensor]


@dataclass
class Update:
    """What one update was: its gradient, the weights after it, the loss and the gradient's norm."""

    gradients: Tensors
    weights: Tensors
    loss: float
    norm: float


def zero(stage: int, precision: str = "fp32", **settings: Any) -> dict[str, Any]:
    halves = {half: {"enabled": half == precision} for half in ("bf16", "fp16")}
    return {"zero_optimization": {"stage": stage, **settings}, **halves}


def ours(
    config: Path, world_size: int, kinds: dict[str, dict[str, Any]], overrides: list[str]
) -> Iterator[tuple[str, Update]]:
    """One update by real ranks under DeepSpeed, for each of several DeepSpeed settings, stage 3 last."""
    outputs, paths = {}, []
    for name, settings in sorted(kinds.items(), key=lambda kind: stage_of(kind[1])):
        output = outputs[name] = config.parent / f"run-{world_size}-{name}"
        path = config.parent / f"{name}.json"
        path.write_text(json.dumps(settings))
        loaded = load_config(PretrainConfig, config, [f"output={output}", f"deepspeed={path}", *overrides])
        write_bytes(output / "config.yaml", dump_config(loaded).encode())
        paths.append(str(output / "config.yaml"))
    printed = run_ranks(world_size, ["-m", "tests.integration.one_update", *paths])
    said = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.startswith(str(config.parent))}
    for name, output in outputs.items():
        folder = RunFolder(output).checkpoint(1)
        pieces = Pieces(folder, verify_checkpoint(folder))
        gradients = {}
        for parameter, shape in pieces.shapes.items():
            moment = torch.empty(torch.Size(shape).numel())
            pieces.read_into("exp_avg", parameter, 0, moment)
            gradients[parameter] = moment.view(shape) / (1 - loaded.optimizer.beta1)
        loss, norm = map(float, said[str(output / "config.yaml")])
        yield name, Update(gradients, {parameter: pieces.whole(parameter) for parameter in pieces.shapes}, loss, norm)


def in_half(path: Path, overrides: list[str], world_size: int, dtype: torch.dtype) -> Tensors:
    """The gradient that a half precision has: the gradients of its micro-batches in plain PyTorch, summed in fp64.

    As under DeepSpeed they are world size times as large until they are averaged, so that what is under the least of
    fp16 is the same.
    """
    config = load_config(PretrainConfig, path, overrides)
    size, micro = config.batch.train_batch_size, config.batch.train_micro_batch_size_per_gpu
    batches = TrainBatches(config.corpus, config, BatchGeometry(size, micro, 1))[range(size // micro)]
    model = MaskedLM(config.model, Corpus(config.corpus).vocab_size, derive("weights", config.seed) % 2**63)
    model.to(dtype).train()
    scale = 2.0**16 if dtype == torch.float16 else 1.0
    share = world_size / torch.tensor(sum(len(batch.labels) for batch in batches))
    sums = {name: torch.zeros_like(parameter, dtype=torch.float64) for name, parameter in model.named_parameters()}
    for batch in batches:
        model.zero_grad()
        loss = model(batch.input_ids, batch.sequences, batch.positions, batch.labels)
        (loss * share * scale).backward()
        for name, parameter in model.named_parameters():
            sums[name] += parameter.grad.double() / (scale * world_size)
    return sums


def plain(path: Path, overrides: list[str], mean_of_means: bool = False) -> tuple[Tensors, Tensors, float]:
    """The same update in plain PyTorch: the whole batch at once, one backward pass, one step of torch's AdamW."""
    config = load_config(PretrainConfig, path, overrides)
    size = config.batch.train_batch_size
    batches = TrainBatches(config.corpus, config, BatchGeometry(size, 1 if mean_of_means else size, 1))
    model = MaskedLM(config.model, Corpus(config.corpus).vocab_size, derive("weights", config.seed) % 2**63).train()
    losses, tokens = [], 0
    for batch in batches[range(size if mean_of_means else 1)]:
        logits = model(batch.input_ids, batch.sequences, batch.positions)
        loss = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
        losses.append(loss / max(1, len(batch.labels)) if mean_of_means else loss)
        tokens += len(batch.labels)
    loss = torch.stack(losses).mean() if mean_of_means else losses[0] / tokens
    loss.backward()
    optimizer = adamw(model, config.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(0, config.optimizer, config.schedule)
    gradients = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    optimizer.step()
    return gradients, {name: p.detach().clone() for name, p in model.named_parameters()}, float(loss.detach())


def largest_difference(left: Tensors, right: Tensors) -> float:
    """Over the tensors, the largest difference of an element relative to the tensor's largest element.

    Where the whole tensor is rounding (keys' biases have no gradient: attention does not change with them), relative to
    a thousandth of the largest element of all.
    """
    assert left.keys() == right.keys()
    floor = max(float(tensor.abs().max()) for tensor in right.values()) / 1000
    found = [(left[n] - right[n]).abs().max() / right[n].abs().max().clamp(min=floor) for n in left]
    return float(torch.stack(found).max())  # NaN if one is, unlike `max`


GEOMETRY = ["batch.train_batch_size=32", "model.hidden_size=32", "model.num_hidden_layers=2"]
NO_DROPOUT = ["model.hidden_dropout_prob=0.0", "model.attention_probs_dropout_prob=0.0"]
FOURS = ["batch.train_micro_batch_size_per_gpu=4"]  # 1 rank × 8 micro-batches of 4, or 2 × 4
OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
KEYS = {"reduce_scatter": False, "contiguous_gradients": False, "allgather_partitions": False, "overlap_comm": True}
KEYS |= {"reduce_bucket_size": 1000, "allgather_bucket_size": 1000}
RELEASED = {"stage3_prefetch_bucket_size": 0, "stage3_max_live_parameters": 0, "stage3_max_reuse_distance": 0}
EXACT = {
    "zero0": zero(0),
    "zero1": zero(1),
    "zero1-bucket": zero(1, contiguous_gradients=True, reduce_bucket_size=1000),
    "zero1-small": zero(1, reduce_bucket_size=1000),  # less than a matrix has
    "zero2": zero(2),
    "zero1-offload": zero(1, **OFFLOAD),
    "zero2-offload": zero(2, **OFFLOAD),
    "zero3": zero(3, stage3_param_persistence_threshold=100),  # some gathered for good, some not
    "zero3-offload": zero(3, sub_group_size=5000, **OFFLOAD),
    "zero1-keys": zero(1, **KEYS),
    "zero2-keys": zero(2, **KEYS),
    "zero3-keys": zero(3, **KEYS, **RELEASED),
}
FP16 = {
    "zero1-fp16": zero(1, "fp16"),
    "zero2-fp16": zero(2, "fp16", **KEYS),
    "zero3-fp16": zero(3, "fp16"),
    "zero1-offload-fp16": zero(1, "fp16", **OFFLOAD),
    "zero2-offload-fp16": zero(2, "fp16", **OFFLOAD),
    "zero3-offload-fp16": zero(3, "fp16", **OFFLOAD),
}
ROUNDED = {
    "zero1-bf16": zero(1, "bf16"),
    "zero2-bf16": zero(2, "bf16"),
    "zero3-bf16": zero(3, "bf16"),
    "zero1-offload-bf16": zero(1, "bf16", **OFFLOAD),
    "zero2-offload-bf16": zero(2, "bf16", **OFFLOAD),
    "zero3-offload-bf16": zero(3, "bf16", **OFFLOAD),
    **FP16,
}


@pytest.mark.parametrize("world_size", [1, 2])
def test_every_stage_and_division_makes_the_update_of_plain_pytorch(pretrain_yaml: Path, world_size: int) -> None:
    settings = [*GEOMETRY, *NO_DROPOUT]
    gradient, weights, loss = plain(pretrain_yaml, settings)
    norm = float(torch.nn.utils.get_total_norm(list(gradient.values())))
    learned = load_config(PretrainConfig, pretrain_yaml, settings).optimizer.learning_rate
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    half = {key: in_half(pretrain_yaml, [*settings, *FOURS], world_size, dtype) for key, dtype in dtypes.items()}
    seen = []
    for name, theirs in ours(pretrain_yaml, world_size, EXACT | ROUNDED, [*settings, *FOURS]):
        seen.append(name)
        exact = name in EXACT
        rounding = 1e-5 if exact else 0.01 if name in FP16 else 0.05
        assert largest_difference(theirs.gradients, gradient) < rounding, name
        assert theirs.loss == pytest.approx(loss, rel=1e-6 if exact else 1e-3), name
        assert theirs.norm == pytest.approx(norm, rel=1e-5 if exact else 1e-2), name
        if not exact:  # nothing is lost between a micro-batch and the update: sums in fp16 would be off by 5e-4
            assert largest_difference(theirs.gradients, half[name[-4:]]) < 2e-6, name
        distances = [(theirs.weights[n] - weights[n]).abs() for n in weights]
        if exact:  # Adam's first step is lr · sign(gradient): where that is zero its sign is rounding
            assert max(float(distance.max()) for distance in distances) < 2.1 * learned, name
            assert min(float((distance < 1e-6).float().mean()) for distance in distances) > 0.95, name
    assert sorted(seen) == sorted(EXACT | ROUNDED)


def test_the_mean_of_means_is_another_gradient(pretrain_yaml: Path) -> None:
    """So the tolerance above can tell them apart."""
    settings = [*GEOMETRY, *NO_DROPOUT]
    right, *_ = plain(pretrain_yaml, settings)
    wrong, *_ = plain(pretrain_yaml, settings, mean_of_means=True)
    assert largest_difference(wrong, right) > 1e-2


def test_dropout_is_the_same_on_any_number_of_ranks(pretrain_yaml: Path) -> None:
    kinds = {"zero1": zero(1)}
    ((_, one),) = ours(pretrain_yaml, 1, kinds, [*GEOMETRY, *FOURS])
    ((_, two),) = ours(pretrain_yaml, 2, kinds, [*GEOMETRY, *FOURS])
    assert largest_difference(two.gradients, one.gradients) < 1e-5
    without, *_ = plain(pretrain_yaml, [*GEOMETRY, *NO_DROPOUT])
    assert largest_difference(one.gradients, without) > 1e-2
