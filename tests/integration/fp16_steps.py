"""One rank of two whose loss scale moves, for each of some pairs of runs:

    python -m tests.integration.fp16_steps MOVING/config.yaml STATIC/config.yaml …

The first run's scale begins at 2¹⁶, falls at every overflow, not under 2¹⁴, and doubles after every applied step but
the first behind an overflow; the second's is 2¹⁴. Asserted on every rank: which steps are overflows and which the
guard's; that neither changes anything of weights and optimizer states; what the scale is; and that both runs make the
same updates of the steps that are applied.
"""

import math
import sys
from pathlib import Path

import torch.distributed as dist

import tests.integration.fp16_stand_in  # noqa: F401
from pipeline.configfile import load_config
from pipeline.engine.engine import start_processes
from pipeline.engine.loss_scale import LossScale
from pipeline.pretrain_config import PretrainConfig
from pipeline.rank import end_process
from pipeline.trainer import StepDone
from tests.integration.bad_micro_batches import BAD, Bad
from tests.integration.skipped_step import digest, take


class Steps:
    """Steps of the first run, by their numbers."""

    def __init__(self, trainer: Bad) -> None:
        assert trainer.engine.loss_scale is not None
        self.trainer, self.scale = trainer, trainer.engine.loss_scale

    def bad(self, number: int, *, gradient_only: bool) -> StepDone:
        """With a NaN on rank 1."""
        BAD.add(number * self.trainer.geometry.micro_batches + 1)
        self.trainer.gradient_only = gradient_only
        before = digest(self.trainer)
        done = take(self.trainer, number)
        assert digest(self.trainer) == before
        return done

    def overflow(self, number: int, tried: float, count: int) -> None:
        done = self.bad(number, gradient_only=True)
        assert (done.overflow, done.unsound) == (True, None)
        assert math.isfinite(done.loss)
        assert not math.isfinite(done.grad_norm)
        assert done.scaling == {"loss_scale": tried, "overflows": count}

    def guarded(self, number: int, reason: str, *, gradient_only: bool) -> None:
        value, done = self.scale.value, self.bad(number, gradient_only=gradient_only)
        assert (done.overflow, done.unsound, self.scale.value) == (False, reason, value)

    def applied(self, number: int, tried: float) -> StepDone:
        done = take(self.trainer, number)
        assert (done.overflow, done.unsound, done.scaling["loss_scale"]) == (False, None, tried)
        return done


def check(moving: Bad, static: Bad) -> None:
    steps = Steps(moving)
    steps.overflow(0, 2**16, 1)
    steps.overflow(1, 2**15, 2)
    steps.guarded(2, "the gradient norm is nan", gradient_only=True)  # nothing is left to halve
    applied = [steps.applied(3, 2**14), steps.applied(4, 2**14)]
    steps.guarded(5, "the loss is nan on rank 1", gradient_only=False)  # a loss is not the scale's doing
    applied += [steps.applied(6, 2**15)]
    steps.overflow(7, 2**16, 3)
    assert steps.scale.value == 2**15
    assert moving.engine.updates == len(applied)

    for number, done in zip((3, 4, 6), applied, strict=True):
        expected = take(static, number)
        assert math.isclose(done.loss, expected.loss, rel_tol=1e-4)
        assert math.isclose(done.grad_norm, expected.grad_norm, rel_tol=1e-3)
    for found, wanted in zip(moving.engine.fragments(), static.engine.fragments(), strict=True):
        for name, tensor in found.tensors.items():
            largest = float(wanted.tensors[name].abs().max())
            assert float((tensor - wanted.tensors[name]).abs().max()) <= 1e-3 * largest, (found.name, name)

    numbers = steps.scale.numbers()
    fresh = LossScale(moving.engine.deepspeed.optimizer)
    fresh.restore(None)
    assert fresh.numbers() == {**numbers, "overflows": 0}  # as it was made
    fresh.restore(numbers)
    assert fresh.numbers() == numbers


if __name__ == "__main__":
    device = start_processes()
    for paths in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        moving, static = [Bad(load_config(PretrainConfig, Path(path)), device) for path in paths]
        for trainer in (moving, static):
            trainer.engine.model.train()
        check(moving, static)
        dist.barrier()
        print(f"{paths[0]} held", flush=True)
    end_process(0)
