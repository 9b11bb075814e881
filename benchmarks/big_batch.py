"""8,192 and 16,384 sequences in one optimizer step, through the launcher, on one rank and on two.

    python -m benchmarks.big_batch

2 layers, hidden 64, 32 tokens. Loss and gradient (Adam's first moment) of the two runs are compared, and the peak
memory of a rank with that of a step of 256 sequences: it must not depend on the effective batch.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table

from pipeline.checkpoint import Pieces
from pipeline.run_folder import RunFolder, verify_checkpoint
from tests.tiny import tiny_corpus


def one_step(folder: Path, batch: int, ranks: int) -> tuple[RunFolder, dict[str, Any]]:
    """Train one step with `kilobatch pretrain`; its run and the metrics of the step."""
    run = RunFolder(folder / f"run-{batch}-{ranks}")
    config = {
        "corpus": str(folder / "corpus"),
        "output": str(run.path),
        "model": {
            "num_hidden_layers": 2,
            "hidden_size": 64,
            "num_attention_heads": 2,
            "intermediate_size": 256,
            "max_position_embeddings": 34,
        },
        "batch": {"train_batch_size": batch, "train_micro_batch_size_per_gpu": 64, "sequence_length": 32},
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"total_steps": 1, "warmup_fraction": 0.0},
        "deepspeed": str(folder / "zero1.json"),
        "evaluation": {"samples": 64},
        "cpu_ranks": ranks,
    }
    path = folder / "pretrain.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "launch.cli", "pretrain", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    lines = map(json.loads, run.metrics.read_text(encoding="utf-8").splitlines())
    return run, next(line for line in lines if line["event"] == "train")


def largest_difference(left: RunFolder, right: RunFolder, state: str) -> float:
    """Of any element of a state, relative to the largest element of it."""
    pieces = [Pieces(run.checkpoint(1), verify_checkpoint(run.checkpoint(1))) for run in (left, right)]
    largest = scale = 0.0
    for name, shape in pieces[0].shapes.items():
        tensors = [torch.empty(torch.Size(shape).numel()) for _ in pieces]
        for piece, tensor in zip(pieces, tensors, strict=True):
            piece.read_into(state, name, 0, tensor)
        largest = max(largest, float((tensors[0] - tensors[1]).abs().max()))
        scale = max(scale, float(tensors[1].abs().max()))
    return largest / scale


def main() -> None:
    console = Console(highlight=False)
    table = Table("sequences a step", "loss, 1 rank", "loss, 2 ranks", "gradient differs by", "peak memory of a rank")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_corpus(folder / "corpus", samples=20_000, sequence_length=32, vocab_size=512)
        (folder / "zero1.json").write_text('{"zero_optimization": {"stage": 1}}')
        for batch in (256, 8192, 16384):
            (one, first), (two, second) = one_step(folder, batch, 1), one_step(folder, batch, 2)
            table.add_row(
                f"{batch:,}",
                f"{first['loss']:.7f}",
                f"{second['loss']:.7f}",
                f"{largest_difference(two, one, 'exp_avg'):.1e}",
                f"{second['peak_memory_bytes'] / 1e6:.0f} MB",
            )
    console.print(table)


if __name__ == "__main__":
    main()
