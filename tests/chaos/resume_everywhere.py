"""What a rank does that takes up a run's checkpoints one after another, in a process that made none of them."""

from pathlib import Path

import torch

from pipeline.checkpoints.checkpoint import Pieces
from pipeline.checkpoints.run_folder import verify_checkpoint
from pipeline.configfile import load_config
from pipeline.engine.engine import start_processes
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.position import Position
from pipeline.trainer import Trainer


def again_from_every_step(config: Path) -> int:
    """From the checkpoint of each step one step on, and from some to the last: the bytes of the run that went through.

    Each is loaded over what the one before it left, so it must set all that the next step depends on. Latest first:
    what was left is never what is wanted.
    """
    trainer = Trainer(load_config(PretrainConfig, config), start_processes())
    last, every = trainer.config.schedule.total_steps, 16
    steps = trainer.run.steps()
    assert steps == list(range(1, last + 1)), "the run saves every step and keeps all"
    wrong = []
    for step in reversed(steps[:-1]):
        for end in {step + 1, last} if step % every == 0 else {step + 1}:
            wrong += [f"{step} → {end}: {name}" for name in differences(trainer, step, end)]
    print("\n".join(wrong) or f"{len(steps)} steps, all the same", flush=True)
    return int(bool(wrong))


def differences(trainer: Trainer, begin: int, end: int) -> list[str]:
    """Which of this rank's tensors differ at `end` from its checkpoint, when the run goes on from that of `begin`."""
    manifest = verify_checkpoint(trainer.run.checkpoint(begin))
    trainer._load(manifest, [])
    trainer.engine.model.train()
    for step in trainer.steps(Position.of(manifest), end):
        trainer.train_step(step)
    folder = trainer.run.checkpoint(end)
    expected = verify_checkpoint(folder)
    pieces, found = Pieces(folder, expected), []
    for fragment in trainer.engine.fragments():
        for state, tensor in fragment.tensors.items():
            pieces.read_into(state, fragment.name, fragment.begin, saved := torch.empty(len(tensor)))
            found += [f"{state}/{fragment.name}"] * (not torch.equal(saved, tensor.cpu()))
    scale = trainer.engine.loss_scale
    counted = {"updates": trainer.engine.updates, "loss_scale": scale.numbers() if scale else None}
    return found + [key for key, value in counted.items() if value != expected[key]]
