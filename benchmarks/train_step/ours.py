"""Our side: `pipeline.train` itself, with its loader, engine, counters and log; what its metrics.jsonl says."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.local import free_port


def train(config: Path, threads: int, cpus: Sequence[int | None] = (None,)) -> list[dict[str, Any]]:
    """Train to the end, a rank for each of `cpus`, bound to that core if one is named; the lines of the steps."""
    shared = {**os.environ, "WORLD_SIZE": str(len(cpus)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared["OMP_NUM_THREADS"] = str(threads)
    ranks = []
    for rank, cpu in enumerate(cpus):
        bound = [] if cpu is None else ["taskset", "-c", str(cpu)]
        command = [*bound, sys.executable, "-m", "pipeline.train", str(config)]
        environment = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        ranks.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    try:
        errors = [rank.communicate()[1].decode() for rank in ranks]
    finally:  # an interrupted benchmark leaves none behind
        for rank in ranks:
            rank.kill()
    if any(rank.returncode for rank in ranks):
        sys.exit("\n".join(errors))
    lines = map(json.loads, (config.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["event"] == "train"]
