"""One rank of a group that loads each of some runs' checkpoints under each configuration, and saves it again.

    python -m tests.integration.pass_on 'RUN …' CONFIG …          RUN: with a checkpoint of step 1

Without runs the configurations' own runs are taken, each after an update. What is loaded from RUN is saved in the
configuration's folder under that name, and the held-out loss with it is said.
"""

import sys
from pathlib import Path

import tests.integration.fp16_stand_in  # noqa: F401
from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.checkpoints.saving import Saver
from pipeline.configfile import load_config
from pipeline.engine.engine import start_processes
from pipeline.pretrain_config import PretrainConfig
from pipeline.rank import end_process
from pipeline.samples.data import steps
from pipeline.samples.position import Position
from pipeline.trainer import Trainer


def update(trainer: Trainer) -> Path:
    trainer.engine.model.train()
    for step in steps(trainer.batches, trainer.rank, 0, 1, workers=0):
        trainer.train_step(step)
    trainer.save(Position(1))
    trainer.finish_save()
    return trainer.run.path


def pass_on(trainer: Trainer, source: Path) -> None:
    folder = RunFolder(source).checkpoint(1)
    manifest = verify_checkpoint(folder)
    checkpoint.load(folder, manifest, trainer.engine)
    scores = trainer.held_out.scores(trainer.engine.model, trainer.device, trainer.rank, trainer.world_size)
    print(f"{trainer.run.path.name} {source.name} {scores.loss!r}", flush=True)
    counted = {key: manifest[key] for key in ("consumed_samples", "consumed_tokens")} | Position.of(manifest).stamp()
    passed_on = RunFolder(trainer.run.path / source.name)
    passed_on.path.mkdir(exist_ok=True)  # by whichever rank comes first: a save makes no run's folder
    saver = Saver(passed_on, trainer.engine)
    saver.begin(1, {**trainer.stamp, **counted})
    saver.finish()


if __name__ == "__main__":
    device = start_processes()
    trainers = [Trainer(load_config(PretrainConfig, Path(path)), device) for path in sys.argv[2:]]
    sources = [Path(path) for path in sys.argv[1].split()] or [update(trainer) for trainer in trainers]
    for trainer in trainers:
        for source in sources:
            pass_on(trainer, source)
    end_process(0)
