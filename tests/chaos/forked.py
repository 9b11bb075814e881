"""Many starts of a run's ranks for the price of one: forked from a process that has imported torch and DeepSpeed.

They are real processes over gloo, each with a pid to kill, and do what `python -m pipeline.train RUN/config.yaml`
does.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from launch.local import free_port
from tests.chaos.calls import Watch

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.chaos.rank"])
GRACE = 10.0  # seconds for the other ranks to find that one is gone


@dataclass(frozen=True)
class Ended:
    """How ranks ended: exit codes (−9: killed) and what each said."""

    codes: list[int]
    said: list[str]

    def __str__(self) -> str:
        return "\n".join([f"exit codes {self.codes}", *self.said])


@dataclass(frozen=True)
class Group:
    """The ranks of a run whose resolved configuration is `config`; what each says goes beside it."""

    config: Path
    processes: list[BaseProcess]

    def finish(self, meanwhile: Callable[[], None] = lambda: None, limit: float = 240) -> Ended:
        """Wait as DeepSpeed's launcher does: once a rank fails, the others are told to end, then killed."""
        deadline, told = time.monotonic() + limit, False
        try:
            while (running := [p for p in self.processes if p.exitcode is None]) and time.monotonic() < deadline:
                meanwhile()
                wait([process.sentinel for process in running], timeout=0.1)
                if not told and any(process.exitcode for process in self.processes):
                    told, deadline = True, min(deadline, time.monotonic() + GRACE)
                    for process in running:
                        process.terminate()
        finally:
            for process in self.processes:
                process.kill()
                process.join()
        said = [said_by(self.config, rank).read_text() for rank in range(len(self.processes))]
        return Ended([int(process.exitcode or 0) for process in self.processes], said)


def start(
    config: Path, world_size: int, watches: Mapping[int, Watch] | None = None, work: Callable[[Path], int] | None = None
) -> Group:
    """Start every rank.

    Args:
        watches: rank → what is counted in it. work: what each does instead of `pipeline.train.main`.
    """
    port = free_port()
    arguments = [(config, rank, world_size, port, (watches or {}).get(rank), work) for rank in range(world_size)]
    processes: list[BaseProcess] = [_CONTEXT.Process(target=_rank, args=given) for given in arguments]
    for process in processes:
        process.start()
    return Group(config, processes)


def _rank(config: Path, rank: int, world_size: int, port: int, what: Watch | None, work: Callable[[Path], int]) -> None:
    from tests.chaos.rank import main

    main(config, rank, world_size, port, what, said_by(config, rank), work)


def said_by(config: Path, rank: int) -> Path:
    return config.with_name(f"said-{rank}.txt")
