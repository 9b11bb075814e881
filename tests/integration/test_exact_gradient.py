"""Law 2: an update is the gradient of the sum of token losses over the number of predicted tokens of the whole batch.

Adam's first moment after one step is (1 − β₁)·gradient, so a saved checkpoint shows the gradient that was applied.
"""

import json
from pathlib import Path

import pytest
import torch

from pipeline.batch import BatchGeometry
from pipeline.checkpoint import Pieces
from pipeline.configfile import load_config
from pipeline.data import TrainBatches
from pipeline.keyed import derive
from pipeline.model import MaskedLM
from pipeline.optim import adamw, learning_rate
from pipeline.pretrain_config import PretrainConfig
from pipeline.run_folder import RunFolder, verify_checkpoint
from pipeline.shards import Corpus
from tests.ranks import run_ranks

Tensors = dict[str, torch.Tensor]


def ours(config: Path, world_size: int, stage: int, overrides: list[str]) -> tuple[Tensors, Tensors, float]:
    """Gradient, weights and loss of one update by real ranks under DeepSpeed."""
    from pipeline.configfile import dump_config
    from pipeline.files import write_bytes

    output = config.parent / f"run-{world_size}-{stage}"
    settings = config.parent / f"zero{stage}.json"
    settings.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    loaded = load_config(PretrainConfig, config, [f"output={output}", f"deepspeed={settings}", *overrides])
    write_bytes(output / "config.yaml", dump_config(loaded).encode())
    printed = run_ranks(world_size, ["-m", "tests.integration.one_update", str(output / "config.yaml")])
    folder = RunFolder(output).checkpoint(1)
    pieces = Pieces(folder, verify_checkpoint(folder))
    gradients, weights = {}, {}
    for name, shape in pieces.shapes.items():
        moment = torch.empty(torch.Size(shape).numel())
        pieces.read_into("exp_avg", name, 0, moment)
        gradients[name], weights[name] = moment.view(shape) / (1 - loaded.optimizer.beta1), pieces.whole(name)
    loss, norm = map(float, printed.splitlines()[-1].split())
    whole = torch.cat([gradient.flatten() for gradient in gradients.values()])
    assert norm == pytest.approx(float(torch.linalg.vector_norm(whole)), rel=1e-5)  # the loop's own, at every stage
    return gradients, weights, loss


def plain(path: Path, overrides: list[str], mean_of_means: bool = False) -> tuple[Tensors, Tensors, float]:
    """The same update in plain PyTorch: the whole batch at once, one backward pass, one step of torch's AdamW."""
    config = load_config(PretrainConfig, path, overrides)
    size = config.batch.train_batch_size
    batches = TrainBatches(config.corpus, config, BatchGeometry(size, 1 if mean_of_means else size, 1))
    model = MaskedLM(config.model, Corpus(config.corpus).vocab_size, derive("weights", config.seed) % 2**63).train()
    losses, tokens = [], 0
    for batch in batches[range(size if mean_of_means else 1)]:
        logits = model(batch.input_ids, batch.attention_mask, batch.positions)
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


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_any_division_of_the_batch_makes_the_update_of_plain_pytorch(pretrain_yaml: Path, stage: int) -> None:
    settings = [*GEOMETRY, *NO_DROPOUT]
    one = [*settings, "batch.train_micro_batch_size_per_gpu=4"]  # 1 rank × 8 micro-batches of 4
    gradient, weights, loss = plain(pretrain_yaml, settings)
    for world_size in (1, 2):  # 1 × 8 and 2 × 4
        theirs = ours(pretrain_yaml, world_size, stage, one)
        assert largest_difference(theirs[0], gradient) < 1e-5
        assert theirs[2] == pytest.approx(loss, rel=1e-6)
        learned = load_config(PretrainConfig, pretrain_yaml, settings).optimizer.learning_rate
        far = [name for name in weights if float((theirs[1][name] - weights[name]).abs().max()) > 2.1 * learned]
        assert not far  # Adam's first step is lr · sign(gradient): where the gradient is zero its sign is rounding
        same = [float(((theirs[1][n] - weights[n]).abs() < 1e-6).float().mean()) for n in weights]
        assert min(same) > 0.95


def test_the_mean_of_means_is_another_gradient(pretrain_yaml: Path) -> None:
    """So the tolerance above can tell them apart."""
    settings = [*GEOMETRY, *NO_DROPOUT]
    right, *_ = plain(pretrain_yaml, settings)
    wrong, *_ = plain(pretrain_yaml, settings, mean_of_means=True)
    assert largest_difference(wrong, right) > 1e-2


def test_dropout_is_the_same_on_any_number_of_ranks(pretrain_yaml: Path) -> None:
    settings = [*GEOMETRY, "batch.train_micro_batch_size_per_gpu=4"]
    one, two = ours(pretrain_yaml, 1, 1, settings), ours(pretrain_yaml, 2, 1, settings)
    assert largest_difference(two[0], one[0]) < 1e-5
    without, *_ = plain(pretrain_yaml, [*GEOMETRY, *NO_DROPOUT])
    assert largest_difference(one[0], without) > 1e-2
