"""Ranks without the launcher, for tests that start many: real processes over gloo, one thread each."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.local import free_port
from pipeline.configfile import dump_config, load_config
from pipeline.files import write_bytes
from pipeline.pretrain_config import PretrainConfig
from tests.chaos import forked


def run_ranks(world_size: int, arguments: Sequence[str], expected: int = 0) -> str:
    """Run `python ARGUMENTS` as every rank of a group; what rank 0 printed, after all ended with the expected code."""
    shared = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes[:1]]
        if expected:  # the launcher would now end the others, which wait for that
            for process in processes[1:]:
                process.terminate()
        outputs += [process.communicate(timeout=300)[0] for process in processes[1:]]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert codes[0] == expected, f"exit codes {codes}\n" + "\n".join(outputs)
    assert expected or not any(codes), f"exit codes {codes}\n" + "\n".join(outputs)
    return outputs[0]


def forked_ranks(config: Path, world_size: int, expected: int = 0, work: Callable[[Path], int] | None = None) -> str:
    """Train as every rank, forked on CPUs: a start costs a second. What rank 0 printed, as `run_ranks` has it.

    Args:
        config: resolved. work: what each does instead of `pipeline.train.main`.
    """
    ended = forked.start(config, world_size, work=work).finish()
    assert ended.codes[0] == expected, ended
    assert expected or not any(ended.codes), ended
    return ended.said[0]


def pretrain(config: Path, world_size: int, overrides: Sequence[str] = (), expected: int = 0) -> str:
    """What `kilobatch pretrain` does, without its launcher, on CPUs."""
    loaded = load_config(PretrainConfig, config, overrides)
    resolved = loaded.output / "config.yaml"
    write_bytes(resolved, dump_config(loaded).encode())
    return forked_ranks(resolved, world_size, expected)
