"""Pretraining: the loop.

Runs as one rank of a group, started by the DeepSpeed launcher:

    deepspeed --num_accelerators 2 --module pipeline.train RUN/config.yaml

which is what `kilobatch pretrain CONFIG` does. The path: shards → `data.steps` → `MaskedLM` → Σ loss → `Engine` →
weights → `Saver`. Every random choice is a function of (seed, corpus, position), so nothing but the position
has to be restored to go on.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from pipeline.checkpoints.run_folder import RunFolder
from pipeline.configfile import load_config
from pipeline.engine.deepspeed_json import described
from pipeline.engine.engine import bound_collectives, start_processes
from pipeline.engine.optim import learning_rate
from pipeline.errors import Diverged, Stopped
from pipeline.files import remove_unfinished
from pipeline.pretrain_config import PretrainConfig
from pipeline.rank import end_process, failed, run
from pipeline.samples.position import Position
from pipeline.trainer import Trainer
from pipeline.watching.guard import ADVICE
from pipeline.watching.metrics import Metrics
from pipeline.watching.rank_log import note, note_once
from pipeline.watching.watchdog import Watchdog


def train(trainer: Trainer) -> None:
    """Train to `schedule.total_steps`, or until a stop: a checkpoint is then saved first.

    Raises:
        Stopped: on a signal, or at `stop_at_step`. Diverged. RunError: a checkpoint could not be written.
    """
    position, last = trainer.resume(), trainer.config.schedule.total_steps
    note("loaded", step=position.step)
    run = trainer.run if trainer.rank == 0 else None
    if run:
        run.set_aside_after(position.step)
        remove_unfinished(run.checkpoints)
    metrics = Metrics(run, position.step, last, trainer.config.guard)
    engine = described(trainer.stamp["deepspeed"])
    metrics.say(f"{trainer.geometry}; {engine}, {trainer.device.type}; steps {position.step} to {last}")
    try:
        if position.step == 0:
            evaluate(trainer, metrics, 0)
        while position.step < last:
            position = advance(trainer, metrics, position)
    finally:
        metrics.close()


def advance(trainer: Trainer, metrics: Metrics, position: Position) -> Position:
    """The loop: to the end, or to a roll-back. Where the run then stands."""
    config, last = trainer.config, trainer.config.schedule.total_steps
    trainer.watch.restart()
    for step in trainer.watch.waiting(trainer.steps(position, last)):
        note_once("first data")
        result = trainer.train_step(step)
        note_once("first step")
        position = position.after(skipped=result.unsound is not None)
        done = position.step
        skipped_steps = done - trainer.engine.updates
        if result.unsound:
            metrics.skipped(position, result.unsound, skipped_steps)
        elif result.overflow:
            metrics.overflow(position, {**result.scaling, "skipped_steps": skipped_steps})
        else:
            metrics.train(done, {
                "loss": result.loss,
                "learning_rate": learning_rate(step.number, config.optimizer, config.schedule),
                "grad_norm": result.grad_norm,
                "predicted_tokens": result.computed[-1],
                **result.scaling,
                **trainer.counters.speed(result.computed, trainer.watch.lap(), result.waited),
                **trainer.counters.consumed(position.data_step),
                "skipped_steps": skipped_steps,
            })  # fmt: skip
        if result.unsound and trainer.guard.must_roll_back(position):
            back = trainer.roll_back(position, result.unsound)
            if trainer.rank == 0:
                trainer.run.set_aside_after(back.step)
            metrics.rolled_back(position, back)
            return back
        stop = (result.stop or (config.stop_at_step is not None and done >= config.stop_at_step)) and done < last
        applied = not position.skipped_in_a_row  # else a roll-back may come, which bad weights' score would forestall
        if (applied and done % config.evaluation.every_steps == 0) or done == last:
            evaluate(trainer, metrics, done)
        save = (applied and (result.save or done % config.checkpoint.every_steps == 0)) or done == last or stop
        trainer.compare_replicas(done, save)
        if save:
            trainer.save(position)
        if stop:
            trainer.finish_save()
            saved = trainer.run.checkpoint(done)
            raise Stopped(f"stopped after step {done} of {last}, saved in {saved}; run it again to go on")
        trainer.watch.restart()
    trainer.finish_save()
    return position


def evaluate(trainer: Trainer, metrics: Metrics, done: int) -> None:
    """Score the held-out samples after so many steps.

    Raises:
        Diverged: a score is no finite number: the weights have diverged, and must not be saved.
    """
    scores = trainer.held_out.scores(
        trainer.engine.model,
        trainer.device,
        trainer.rank,
        trainer.world_size,
        progress=lambda: trainer.watchdog.now("evaluation"),
    )
    for name, value in (("held-out loss", scores.loss), ("pseudo-perplexity", scores.pseudo_perplexity or 0)):
        if not math.isfinite(value):
            trainer.finish_save()  # what was saved before is sound
            raise Diverged(
                f"step {done}: the {name} is {value}: the run has diverged and nothing was saved of it; {ADVICE}"
            )
    metrics.evaluation(done, scores.loss, scores.pseudo_perplexity)


def main(config_path: Path, work: Callable[[Trainer], None] = train) -> int:
    """One rank; returns its exit code."""
    try:
        device = start_processes()
        note("joined")
        config = load_config(PretrainConfig, config_path)
        with Watchdog(
            config.watchdog, RunFolder(config.output).log, dist.get_rank(), dist.get_world_size()
        ) as watchdog:
            bound_collectives(watchdog.longest)
            trainer = Trainer(config, device, watchdog)
            note("built")
            work(trainer)
    except Stopped as stopped:
        dist.barrier()  # the launcher ends all ranks once one has ended: none leaves before all have saved
        return failed(stopped)
    except Exception as error:
        return failed(error)
    dist.destroy_process_group()
    note("end", code=0)
    return 0


if __name__ == "__main__":
    end_process(run("pipeline.train", Path(sys.argv[1])))
