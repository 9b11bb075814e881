"""configs/cluster/slurm.sh, with stand-ins for Slurm's program and for the run."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "configs" / "cluster" / "slurm.sh"
SCONTROL = 'case $1 in show) printf "node-1\\nnode-2\\n";; *) echo "$@";; esac'
STOPPED = "trap 'exit 75' USR1; while :; do kill -USR1 $PPID; sleep 0.2; done"  # Slurm's signal, until it is heard


def run(folder: Path, kilobatch: str) -> "subprocess.CompletedProcess[str]":
    for name, script in (("scontrol", SCONTROL), ("kilobatch", f'echo "$@"; {kilobatch}')):
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    environment |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node-[1-2]", "SLURM_GPUS_ON_NODE": "8"}
    command = ["bash", str(SCRIPT), "pretrain.yaml", "seed=2"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_stopped_run_is_queued_again(tmp_path: Path) -> None:
    done = run(tmp_path, STOPPED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["launch --hostfile hosts-7 pretrain.yaml seed=2", "requeue 7"]
    assert (tmp_path / "hosts-7").read_text() == "node-1 slots=8\nnode-2 slots=8\n"


@pytest.mark.parametrize("code", [0, 2])
def test_any_other_end_is_the_jobs(tmp_path: Path, code: int) -> None:
    done = run(tmp_path, f"exit {code}")
    assert done.returncode == code, done.stderr
    assert "requeue" not in done.stdout
