"""8,192 and 16,384 sequences in one optimizer step, through the launcher, on one rank and on two.

    python -m benchmarks.big_batch

2 layers, hidden 64, 32 tokens. Loss, gradient (Adam's first moment) and update (weights after the step less those
before) of the two runs are compared. The peak memory of a rank is compared with that of a run which takes the same
sequences in steps of 256. The exit code is 1 when one does not hold.

glibc is told to give every block of 64 KiB back when it is freed: by default its heap grows by some 150 MB over the
first hundreds of micro-batches, of whatever batch, since each has another number of predicted tokens.

Adam's first update is the learning rate times the gradient's sign, so an element whose gradient is rounding alone may
go either way: eps is set above the rounding, which leaves the update a smooth function of the gradient; and the rate
high, so that the weights' own rounding does not hide it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pipeline.checkpoints.checkpoint import Pieces
from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.configfile import load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.model import MaskedLM
from pipeline.keyed import derive
from pipeline.pretrain_config import PretrainConfig
from tests.tiny import tiny_corpus

SMALL, LARGE = 256, (8192, 16384)
ROUNDING, GROWTH = 1e-5, 0.02


def write_config(folder: Path, batch: int, ranks: int, steps: int) -> Path:
    """The YAML of one run."""
    config = {
        "corpus": str(folder / "corpus"),
        "output": str(folder / f"run-{batch}-{ranks}"),
        "model": {
            "num_hidden_layers": 2,
            "hidden_size": 64,
            "num_attention_heads": 2,
            "intermediate_size": 256,
            "max_position_embeddings": 34,
        },
        "batch": {"train_batch_size": batch, "train_micro_batch_size_per_gpu": 64, "sequence_length": 32},
        "optimizer": {"learning_rate": 0.1, "eps": 1e-3},
        "schedule": {"total_steps": steps, "warmup_fraction": 0.0},
        "deepspeed": str(folder / "zero1.json"),
        "evaluation": {"samples": 64},
        "cpu_ranks": ranks,
    }
    path = folder / f"{batch}-{ranks}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def train(folder: Path, batch: int, ranks: int, steps: int = 1) -> tuple[RunFolder, dict[str, Any]]:
    """Train with `kilobatch pretrain`; its run and the metrics of the last step."""
    run = RunFolder(folder / f"run-{batch}-{ranks}")
    command = [sys.executable, "-m", "launch.cli", "pretrain", str(write_config(folder, batch, ranks, steps))]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    lines = map(json.loads, run.metrics.read_text(encoding="utf-8").splitlines())
    return run, [line for line in lines if line["event"] == "train"][-1]


def initial_weights(folder: Path) -> dict[str, Tensor]:
    """The weights that every run begins with."""
    config = load_config(PretrainConfig, write_config(folder, SMALL, 1, 1))
    vocab_size = Corpus(config.corpus).vocab_size
    model = MaskedLM(config.model, vocab_size, derive("weights", config.seed) % 2**63)
    return {name: parameter.detach().flatten() for name, parameter in model.named_parameters()}


def largest_difference(
    left: RunFolder, right: RunFolder, state: str, begun: Mapping[str, Tensor] | None = None
) -> float:
    """Of any element of a state, or of its change since `begun`, relative to the largest element of it."""
    pieces = [Pieces(run.checkpoint(1), verify_checkpoint(run.checkpoint(1))) for run in (left, right)]
    largest: list[float] = []
    scale = 0.0
    for name, shape in pieces[0].shapes.items():
        tensors = [torch.empty(torch.Size(shape).numel()) for _ in pieces]
        for piece, tensor in zip(pieces, tensors, strict=True):
            piece.read_into(state, name, 0, tensor)
            if begun:
                tensor -= begun[name]
        largest.append(float((tensors[0] - tensors[1]).abs().max()))
        scale = max(scale, float(tensors[1].abs().max()))
    return float(np.max(largest)) / scale


def compare(folder: Path, batch: int) -> tuple[dict[str, float], int]:
    """What one step differs by on one rank and on two, and the peak memory of a rank of the latter."""
    (one, first), (two, second) = train(folder, batch, ranks=1), train(folder, batch, ranks=2)
    differences = {
        "loss": abs(first["loss"] - second["loss"]) / first["loss"],
        "gradient": largest_difference(two, one, "exp_avg"),
        "update": largest_difference(two, one, "weight", initial_weights(folder)),
    }
    return differences, second["peak_memory_bytes"]


def main() -> None:
    table = Table("sequences a step", "loss differs by", "gradient by", "update by", "peak of a rank")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_corpus(folder / "corpus", samples=20_000, sequence_length=32, vocab_size=512)
        (folder / "zero1.json").write_text('{"zero_optimization": {"stage": 1}}')
        small = train(folder, SMALL, ranks=2, steps=LARGE[-1] // SMALL)[1]["peak_memory_bytes"]
        table.add_row(f"{SMALL:,} ({LARGE[-1] // SMALL} steps)", "", "", "", f"{small / 1e6:.0f} MB")
        found: list[float] = []
        for batch in LARGE:
            differences, peak = compare(folder, batch)
            found += differences.values()
            figures = [f"{value:.1e}" for value in differences.values()]
            table.add_row(f"{batch:,}", *figures, f"{peak / 1e6:.0f} MB")
    console = Console(highlight=False)
    console.print(table)
    growth = peak / small - 1
    worst = float(np.max(found))  # NaN if one is, unlike `max`
    equal, flat = worst <= ROUNDING, growth <= GROWTH
    verdict = "equal" if equal else "NOT EQUAL"
    console.print(f"one rank and two differ by {worst:.1e} at most (asked: {ROUNDING:.0e}): {verdict}")
    verdict = "independent of the batch" if flat else "IT GROWS WITH THE BATCH"
    console.print(
        f"peak memory, {LARGE[-1]:,} beside {SMALL:,}: {growth:+.1%} (asked: at most {GROWTH:.0%}): {verdict}"
    )
    sys.exit(not (equal and flat))


if __name__ == "__main__":
    main()
