"""fp16: a loss scale that moves, and what it skips.

The gradient is in test_exact_gradient.py, stages and resuming in test_stages.py, LAMB and Muon in test_optimizers.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from launch import local
from pipeline.configfile import dump_config, load_config
from pipeline.errors import InputError
from pipeline.files import write_bytes
from pipeline.pretrain_config import PretrainConfig
from tests.ranks import run_ranks

SETTINGS = ["batch.train_batch_size=8", "batch.train_micro_batch_size_per_gpu=2", "optimizer.max_grad_norm=0.5"]


def resolved(config: Path, name: str, deepspeed: dict[str, Any]) -> str:
    """The configuration of a run in a folder of its own."""
    settings = config.parent / f"{name}.json"
    settings.write_text(json.dumps(deepspeed))
    overrides = [*SETTINGS, f"output={config.parent / name}", f"deepspeed={settings}"]
    loaded = load_config(PretrainConfig, config, overrides)
    write_bytes(loaded.output / "config.yaml", dump_config(loaded).encode())
    return str(loaded.output / "config.yaml")


def test_overflows_move_the_scale_and_nothing_else(pretrain_yaml: Path) -> None:
    moving = {"initial_scale_power": 16, "loss_scale_window": 1, "hysteresis": 1, "min_loss_scale": 2**14}
    paths = []
    for stage, offload in ((1, "none"), (2, "cpu"), (3, "none")):  # 3 last: it changes torch for the whole process
        zero = {"zero_optimization": {"stage": stage, "offload_optimizer": {"device": offload}}}
        for name, scaling in ((f"moving-{stage}", moving), (f"static-{stage}", {"loss_scale": 2**14})):
            settings = {**zero, "fp16": {"enabled": True, **scaling}}
            paths.append(resolved(pretrain_yaml, name, settings))
    printed = run_ranks(2, ["-m", "tests.integration.fp16_steps", *paths])
    assert [line for line in printed.splitlines() if line.endswith("held")] == [f"{path} held" for path in paths[::2]]


def test_a_cpu_without_fp16_is_one_line_before_anything_starts(
    pretrain_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepspeed.accelerator import get_accelerator

    monkeypatch.setattr(get_accelerator(), "is_fp16_supported", lambda: False)
    monkeypatch.setattr(local, "devices", lambda config: local.Devices(["0"], "CPU"))
    settings = tmp_path / "fp16.json"
    settings.write_text('{"zero_optimization": {"stage": 1}, "fp16": {"enabled": true}}')
    config = load_config(PretrainConfig, pretrain_yaml, [f"deepspeed={settings}"])
    for dry_run in (True, False):
        with pytest.raises(InputError) as caught:
            local.pretrain(config, dry_run=dry_run)
        assert str(caught.value).startswith(f"{settings}: fp16.enabled: this device has no arithmetic in fp16")
        assert not config.output.exists()
