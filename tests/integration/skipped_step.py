"""One rank of two that skip steps, for each of some runs: `python -m tests.integration.skipped_step RUN/config.yaml …`.

Asserts on every rank: a step with a NaN on rank 1 changes nothing of weights and optimizer states, and the step after
it makes the same of them as if the data of the bad step had never been read. One changed bit is then found.
"""

import hashlib
import sys
from pathlib import Path

import torch.distributed as dist

from pipeline.configfile import load_config
from pipeline.engine.engine import start_processes
from pipeline.pretrain_config import PretrainConfig
from pipeline.rank import end_process
from pipeline.samples.data import steps
from pipeline.trainer import StepDone
from tests.integration import flipped_bit
from tests.integration.bad_micro_batches import BAD, Bad


def digest(trainer: Bad) -> str:
    """Everything that this rank keeps, and what it computes with."""
    hashed = hashlib.sha256()
    for fragment in trainer.engine.fragments():
        for tensor in fragment.tensors.values():
            hashed.update(tensor.cpu().numpy().tobytes())
    for parameter in trainer.engine.model.parameters():
        part = getattr(parameter, "ds_tensor", parameter)  # this rank's at stage 3
        hashed.update(part.detach().float().cpu().numpy().tobytes())
    return hashed.hexdigest()


def take(trainer: Bad, number: int) -> StepDone:
    (one,) = steps(trainer.batches, trainer.rank, number, number + 1, workers=0)
    return trainer.train_step(one)


def step(trainer: Bad, number: int) -> str | None:
    return take(trainer, number).unsound


def check(config: PretrainConfig) -> list[str]:
    device = start_processes()
    trainer = Bad(config, device)
    trainer.engine.model.train()
    assert step(trainer, 0) is None
    before = digest(trainer)
    first = trainer.geometry.micro_batches
    BAD.clear()
    BAD.update({first + 1, 2 * first + 1})  # the first micro-batches of rank 1 in steps 1 and 2
    assert step(trainer, 1) == "the loss is nan on rank 1"
    assert digest(trainer) == before
    trainer.gradient_only = True
    assert step(trainer, 2) == "the gradient norm is nan"
    assert digest(trainer) == before
    assert trainer.engine.updates == 1
    assert step(trainer, 3) is None
    assert trainer.engine.updates == 2

    other = Bad(config, device)
    other.engine.model.train()
    assert step(other, 0) is None
    assert digest(other) == before
    assert step(other, 3) is None
    assert digest(other) == digest(trainer) != before
    return flipped_bit.check(trainer)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        kinds = check(load_config(PretrainConfig, Path(path)))
        dist.barrier()
        print(f"{path} kept; found in: {', '.join(kinds)}", flush=True)
    end_process(0)
