"""One rank of a group that makes one update under each configuration and saves it.

    python -m tests.integration.one_update RUN/config.yaml …

A start costs seconds, so a process makes several engines; ZeRO stage 3 changes it for good and comes last.
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
    for path in sys.argv[1:]:
        trainer = Trainer(load_config(PretrainConfig, Path(path)), device)
        trainer.engine.model.train()
        for step in steps(trainer.batches, trainer.rank, 0, 1, workers=0):
            done = trainer.train_step(step)
            print(f"{path} {done.loss!r} {done.grad_norm!r}", flush=True)
        trainer.save(Position(1))
        trainer.finish_save()
    end_process(0)
