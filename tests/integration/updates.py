"""One rank of a group that makes runs, one after another, and saves them where it is told:

    python -m tests.integration.updates RUN/config.yaml:2,4 …

Each run goes on from the checkpoint that is there. A start costs seconds, so a process makes several engines; ZeRO
stage 3 changes it for good and comes last.
"""

import sys
from pathlib import Path

import tests.integration.fp16_stand_in  # noqa: F401
from pipeline.configfile import load_config
from pipeline.engine.engine import start_processes
from pipeline.pretrain_config import PretrainConfig
from pipeline.rank import end_process
from pipeline.samples.data import steps
from pipeline.samples.position import Position
from pipeline.trainer import Trainer

if __name__ == "__main__":
    device = start_processes()
    for argument in sys.argv[1:]:
        path, _, numbers = argument.rpartition(":")
        saved = [int(number) for number in numbers.split(",")]
        trainer = Trainer(load_config(PretrainConfig, Path(path)), device)
        trainer.engine.model.train()
        for step in steps(trainer.batches, trainer.rank, trainer.resume().step, saved[-1], workers=0):
            done = trainer.train_step(step)
            if step.number + 1 in saved:
                trainer.save(Position(step.number + 1))
                trainer.finish_save()
                print(f"{path} {done.grad_norm!r}", flush=True)
    end_process(0)
