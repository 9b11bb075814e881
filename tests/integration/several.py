"""One rank that trains under each of several configurations: `python -m tests.integration.several CONFIG …`."""

import sys
from pathlib import Path

import tests.integration.fp16_stand_in  # noqa: F401
from pipeline.configfile import load_config
from pipeline.engine.engine import start_processes
from pipeline.pretrain_config import PretrainConfig
from pipeline.rank import end_process
from pipeline.train import train
from pipeline.trainer import Trainer

if __name__ == "__main__":
    device = start_processes()
    for path in sys.argv[1:]:
        train(Trainer(load_config(PretrainConfig, Path(path)), device))
    end_process(0)
