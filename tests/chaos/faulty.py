"""`pipeline.train`, where what the environment says goes wrong, and the command that starts it.

FAULTS is JSON, a list of [start, rank, deed, when]: in which start of the run (0: in each), on which rank, what, and
when: in the step of a number (from 1), or before the first call that changes a file whose line matches a pattern.

    python -m tests.chaos.faulty pretrain CONFIG [key=value …]           as `kilobatch`
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from pipeline import train
from pipeline.configfile import load_config
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.data import MicroBatch, Step
from pipeline.trainer import StepDone, Trainer
from pipeline.watching import rank_log
from tests.chaos.calls import Watch, kill_self, watch
from tests.integration.flipped_bit import move

FAULTS = "CHAOS_FAULTS"


def _kill_command() -> None:
    os.kill(int(os.environ[rank_log.SUPERVISOR].rpartition(":")[2]), signal.SIGKILL)
    time.sleep(600)  # ends with it, and gets no further before that on a machine that is slow to end it


def _raise() -> None:
    raise RuntimeError("what nobody expected")


DEEDS: dict[str, Callable[[], None]] = {
    "kill": kill_self,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "kill launcher": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "kill command": _kill_command,
    "raise": _raise,
}


class Faulty(Trainer):
    """Deeds are done before the first micro-batch of their step; `nan` is in its loss, `flip` behind the update."""

    faults: dict[int, str]  # step → deed
    deed = ""

    def train_step(self, step: Step) -> StepDone:
        deed = self.deed = self.faults.get(step.number + 1, "")
        done = super().train_step(step)
        if deed == "flip":
            move(next(self.engine.model.parameters()).data, 5, 1)
        return done

    def loss(self, batch: MicroBatch) -> Tensor:
        deed, self.deed = self.deed, ""
        if deed in DEEDS:
            DEEDS[deed]()
        loss = super().loss(batch)
        return loss * float("nan") if deed == "nan" else loss


def main(config: Path) -> int:
    """One rank; returns its exit code."""
    start, rank = int(os.environ[rank_log.START]), int(os.environ["RANK"])
    mine = [(deed, when) for at, of, deed, when in json.loads(os.environ[FAULTS]) if at in (0, start) and of == rank]
    for deed, call in [(deed, when) for deed, when in mine if isinstance(when, str)]:
        folder = load_config(PretrainConfig, config).output
        watch(Watch(folder, Path(os.devnull), call, kill=DEEDS[deed]))
    Faulty.faults = {when: deed for deed, when in mine if isinstance(when, int)}
    train.Trainer = Faulty  # type: ignore[misc]
    return train.main(config)


if __name__ == "__main__":
    from launch import cli, local

    local.TRAIN = "tests.chaos.faulty"
    sys.argv[0] = "kilobatch"
    cli.main()
