"""One rank of two, whose copies stop being the same at the fourth step, on rank 1."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline import train
from pipeline.samples.data import Step
from pipeline.trainer import StepDone, Trainer
from pipeline.watching.replicas import INTEGERS, ReplicasDiffer, compare_replicas, replicated


def move(tensor: Tensor, position: int, ulps: int) -> None:
    """Move an element by so many units in the last place."""
    tensor.view(-1)[position : position + 1].view(INTEGERS[tensor.element_size()]).add_(ulps)


def compared(trainer: Trainer) -> str:
    """What is said of the ranks' copies; nothing where they are the same."""
    try:
        compare_replicas(trainer.engine, 1)
    except ReplicasDiffer as error:
        return str(error)
    return ""


def timeouts() -> list[timedelta]:
    """Of every process group."""
    groups = dist.distributed_c10d._world.pg_map
    return [group._get_backend(torch.device("cpu")).options._timeout for group in groups]


def check(trainer: Trainer) -> list[str]:
    """Assert on every rank that one ulp on rank 1 is found in each kind of tensor, and undone is not; the kinds."""
    assert set(timeouts()) == {timedelta(seconds=trainer.watchdog.longest)}
    assert compared(trainer) == ""
    tensors = replicated(trainer.engine)
    kinds = {name.partition(" of ")[0]: name for name in tensors}
    for name in [next(iter(tensors)), *kinds.values()]:
        for position in (0, tensors[name].numel() - 1):
            if trainer.rank == 1:
                move(tensors[name], position, 1)
            assert compared(trainer).startswith(f"step 1: {name}: the 2 ranks differ"), compared(trainer)
            if trainer.rank == 1:
                move(tensors[name], position, -1)
            assert compared(trainer) == ""
    return list(kinds)


class Flipped(train.Trainer):
    def train_step(self, step: Step) -> StepDone:
        done = super().train_step(step)
        if step.number == 3 and self.rank == 1:
            move(next(self.engine.model.parameters()).data, 5, 1)
        return done


def train_flipped(config: Path) -> int:
    """`pipeline.train.main`; for a process of its own."""
    train.Trainer = Flipped  # type: ignore[misc]
    return train.main(config)
