"""One rank of a run some of whose micro-batches have a loss that is not a number, on the rank that computes them."""

from pathlib import Path

from torch import Tensor

from pipeline import train
from pipeline.samples.data import MicroBatch

BAD: set[int] = set()  # global indices


class Bad(train.Trainer):
    gradient_only = False

    def loss(self, batch: MicroBatch) -> Tensor:
        loss = super().loss(batch)
        if batch.index not in BAD:
            return loss
        if self.gradient_only:
            loss.register_hook(lambda gradient: gradient * float("nan"))
            return loss
        return loss * float("nan")


def train_with(bad: set[int], config: Path) -> int:
    """`pipeline.train.main`, with a NaN in the micro-batches of these global indices. For a process of its own."""
    BAD.update(bad)
    train.Trainer = Bad  # type: ignore[misc]
    return train.main(config)
