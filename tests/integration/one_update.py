"""One rank of a group that makes one update and saves it: `python -m tests.integration.one_update RUN/config.yaml`."""

import sys
from pathlib import Path

from pipeline.configfile import load_config
from pipeline.data import steps
from pipeline.engine import start_processes
from pipeline.pretrain_config import PretrainConfig
from pipeline.train import Trainer

if __name__ == "__main__":
    device = start_processes()
    trainer = Trainer(load_config(PretrainConfig, Path(sys.argv[1])), device)
    trainer.engine.model.train()
    for step in steps(trainer.batches, trainer.rank, 0, 1, workers=0):
        done = trainer.train_step(step)
        print(f"{done.loss!r} {done.grad_norm!r}", flush=True)
    trainer.save(1)
