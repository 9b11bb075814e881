"""One rank of a run, in a forked process (`tests.chaos.forked`). Importing this loads all that a run needs."""

import multiprocessing
import os

os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}  # no fork survives what its parent did on a GPU

from collections.abc import Callable, Iterator
from pathlib import Path

import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401  every engine imports it, and with it all of torch.compile
from torch import Tensor

import tests.integration.fp16_stand_in  # noqa: F401
from pipeline import train
from pipeline.checkpoints.snapshot import Snapshot
from pipeline.engine.engine import Engine
from pipeline.rank import end_process
from pipeline.samples.data import MicroBatch
from pipeline.trainer import Trainer
from tests.chaos.calls import Watch, watch


def main(
    config: Path,
    rank: int,
    world_size: int,
    port: int,
    what: Watch | None,
    said: Path,
    work: Callable[[Path], int] | None,
) -> None:
    multiprocessing.set_start_method(
        "fork", force=True
    )  # of loader workers, as in a run; else each imports all of this
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if what:
        called = watch(what)
        _count_passes(called)
        _count_blocks(called)
    end_process((work or train.main)(config))


def _count_passes(called: Callable[[str], None]) -> None:
    """Before each micro-batch's forward pass, and between the last backward pass and the update."""
    loss, step = Trainer.loss, Engine.step

    def counted_loss(trainer: Trainer, batch: MicroBatch) -> Tensor:
        called("forward")
        return loss(trainer, batch)

    def counted_step(engine: Engine, *args: float) -> None:
        called("update")
        step(engine, *args)

    Trainer.loss, Engine.step = counted_loss, counted_step  # type: ignore[method-assign]


def _count_blocks(called: Callable[[str], None]) -> None:
    """Amid each block of a file of tensors: when it is the one, a part of the file is there."""
    blocks = Snapshot.blocks

    def halves(snapshot: Snapshot) -> Iterator[bytes | memoryview]:
        for block in blocks(snapshot):
            yield block[: len(block) // 2]
            called("tensors")
            yield block[len(block) // 2 :]

    Snapshot.blocks = halves  # type: ignore[method-assign]
