"""One rank of a run some of whose micro-batches have a loss that is not a number, on the rank that computes them:

python -m tests.integration.bad_micro_batches RUN/config.yaml 41,50,59
"""

import sys
from pathlib import Path

from torch import Tensor

from pipeline import train
from pipeline.rank import end_process
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


if __name__ == "__main__":
    BAD.update(map(int, sys.argv[2].split(",")))
    train.Trainer = Bad  # type: ignore[misc]
    end_process(train.main(Path(sys.argv[1])))
