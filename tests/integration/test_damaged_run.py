"""A run whose checkpoints were damaged, and the real launcher: named, passed over, never run; with none left exit 3."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.checkpoints.run_folder import RunFolder
from tests.checkpoints import WEIGHTS, reseal
from tests.conftest import flip_byte

SETTINGS = ["checkpoint.every_steps=1", "evaluation.samples=8", "loader_workers=0", "optimizer.learning_rate=1e-3"]


class Payload:
    """Whoever unpickles it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.open, (str(self.marker), os.O_CREAT)


def test_the_launcher_goes_on_from_the_newest_sound_one(pretrain_yaml: Path, tmp_path: Path) -> None:
    run, marker = RunFolder(tmp_path / "run"), tmp_path / "executed"

    def pretrain(*overrides: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "launch.cli", "pretrain", str(pretrain_yaml), *SETTINGS, *overrides]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    assert pretrain("stop_at_step=3").returncode == 75
    assert run.steps() == [1, 2, 3]
    pickled = run.checkpoint(3) / WEIGHTS
    pickled.write_bytes(pickle.dumps(Payload(marker)))
    reseal(run.checkpoint(3))  # its digests hold
    flip_byte(run.checkpoint(2) / WEIGHTS, -1)
    went_on = pretrain("stop_at_step=2")
    assert went_on.returncode == 75, went_on.stderr
    assert f"passed over: {pickled}: not a safetensors file" in went_on.stderr
    assert f"passed over: {run.checkpoint(2) / WEIGHTS}: SHA-256 " in went_on.stderr
    assert "; steps 1 to 10" in went_on.stdout
    assert run.steps() == [1, 2]

    for step in run.steps():
        (run.checkpoint(step) / WEIGHTS).write_bytes(b"")
    refused = pretrain()
    assert refused.returncode == 3
    assert refused.stderr.startswith(f"kilobatch: no checkpoint is sound; the newest: {run.checkpoint(2) / WEIGHTS}: ")
    assert len(refused.stderr.splitlines()) == 1
    assert run.steps() == [1, 2]
    assert not marker.exists()
