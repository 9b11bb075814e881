"""A tiny run that is killed and started again, and what must be the same at its end."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.configfile import dump_config, load_config
from pipeline.files import write_bytes
from pipeline.pretrain_config import PretrainConfig
from tests.conftest import PRETRAIN_YAML

STEPS, EVERY = 12, 3
SETTINGS = [f"schedule.total_steps={STEPS}", f"checkpoint.every_steps={EVERY}", "checkpoint.keep_last=2"]
SETTINGS += ["batch.train_batch_size=16", "batch.train_micro_batch_size_per_gpu=2", "optimizer.learning_rate=1e-2"]
SETTINGS += ["evaluation.every_steps=6", "evaluation.samples=8", "loader_workers=0"]
CLOCKS = ("step_seconds", "data_wait_seconds", "tokens_per_second", "mfu", "peak_memory_bytes")


def resolved(
    corpus: Path, output: Path, deepspeed: dict[str, Any] | None = None, overrides: Sequence[str] = ()
) -> Path:
    """A resolved configuration, as `kilobatch pretrain` leaves it for the ranks."""
    output.mkdir(parents=True, exist_ok=True)
    settings, config = output / "deepspeed.json", output / "pretrain.yaml"
    settings.write_text(json.dumps(deepspeed or {"zero_optimization": {"stage": 1}}))
    config.write_text(PRETRAIN_YAML.format(corpus=corpus, output=output, deepspeed=settings))
    write_bytes(
        output / "config.yaml", dump_config(load_config(PretrainConfig, config, [*SETTINGS, *overrides])).encode()
    )
    return output / "config.yaml"


def end_of(run: Path, step: int = STEPS) -> dict[str, Any]:
    """What a checkpoint holds: SHA-256 of the files of weights and moments, and every counter."""
    manifest = verify_checkpoint(RunFolder(run).checkpoint(step))
    return {key: value for key, value in manifest.items() if key not in ("config", "digest")}


def logged(run: Path) -> list[dict[str, Any]]:
    """The metrics but for what a clock or a meter says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]
