"""Pretraining: the loop.

Runs as one rank of a group, started by the DeepSpeed launcher:

    deepspeed --num_accelerators 2 --module pipeline.train RUN/config.yaml

which is what `kilobatch pretrain CONFIG` does. The path: shards → `data.steps` → `MaskedLM` → Σ loss → `Engine` →
weights → `checkpoint.save`. Every random choice is a function of (seed, corpus, position), so nothing but the step
count has to be restored to go on.
"""

import math
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline import checkpoint, gradients
from pipeline.batch import BatchGeometry
from pipeline.configfile import load_config
from pipeline.counters import Counters
from pipeline.data import MicroBatch, Step, TrainBatches, steps
from pipeline.deepspeed_json import read_deepspeed_json
from pipeline.engine import Engine, end_process, start_processes
from pipeline.errors import RunError, Stopped, UserError
from pipeline.evaluate import HeldOut
from pipeline.initial import initial_model, load_start
from pipeline.keyed import derive
from pipeline.metrics import Metrics
from pipeline.optim import build_optimizer, learning_rate
from pipeline.pretrain_config import PretrainConfig
from pipeline.run_folder import RunFolder, check_provenance, stamp
from pipeline.shards import Corpus
from pipeline.stopwatch import Stopwatch


@dataclass(frozen=True)
class StepDone:
    """What the ranks know together of a step."""

    loss: float  # nats a predicted token
    grad_norm: float  # of the whole gradient, before clipping
    predicted_tokens: int
    waited: float  # seconds for data, of the mean rank
    stop: bool  # a rank was asked to


class Trainer:
    """One rank of a run: what the steps share. Read `train` first."""

    def __init__(self, config: PretrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.run = RunFolder(config.output)
        self.geometry = BatchGeometry(
            config.batch.train_batch_size, config.batch.train_micro_batch_size_per_gpu, self.world_size
        )
        corpus = Corpus(config.corpus)
        corpus.verify_sizes()
        self.batches = TrainBatches(config.corpus, config, self.geometry)
        self.held_out = HeldOut(corpus, config.batch.sequence_length, config.evaluation, config.batch.documents)
        model = initial_model(config, corpus)
        if config.model.init_from and not self.run.steps():  # else a checkpoint's weights follow
            said = load_start(model, config.model)
            if self.rank == 0:
                print(said, flush=True)
        if config.compile:
            model.compile_layers()
        optimizer = build_optimizer(model.to(device), config.optimizer)
        settings = read_deepspeed_json(config.deepspeed)
        self.engine = Engine(model, optimizer, self.geometry, settings, config.optimizer.max_grad_norm)
        dtype = next(model.parameters()).dtype
        self.counters = Counters(config, self.geometry, corpus.vocab_size, device, dtype)
        self.watch = Stopwatch()
        self.stamp = stamp(config, corpus)
        self.stop_requested = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._request_stop)

    def _request_stop(self, number: int, frame: object) -> None:
        self.stop_requested = True

    def resume(self) -> int:
        """Load the newest sound checkpoint as `resume` allows; the number of steps it has done."""
        manifest, broken = self.run.to_resume(self.config.resume)
        for error in broken if self.rank == 0 else []:
            print(f"kilobatch: passed over: {error}", file=sys.stderr, flush=True)
        if manifest is None:
            return 0
        folder = self.run.checkpoint(manifest["step"])
        check_provenance(manifest, self.stamp, folder)
        checkpoint.load(folder, manifest, self.engine)
        return int(manifest["step"])

    def loss(self, batch: MicroBatch) -> Tensor:
        """Σ loss of a micro-batch on the device; its dropout depends on its global index alone."""
        torch.manual_seed(derive("dropout", self.config.seed, batch.index))
        loss: Tensor = self.engine.deepspeed(batch.input_ids, batch.sequences, batch.positions, batch.labels)
        return loss

    def train_step(self, step: Step) -> StepDone:
        """One update. The device is read once, before it, so that nothing waits for the device in between."""

        def scalar(value: float) -> Tensor:
            return torch.full((), value, dtype=torch.float64, device=self.device)

        predicted, loss_sum = scalar(step.predicted_tokens), scalar(0)
        dist.all_reduce(predicted)
        for batch in self.watch.waiting(step.micro_batches):
            loss = self.loss(batch.to(self.device))
            self.engine.backward(loss, predicted.clamp(min=1))  # without predicted tokens zero, not 0 ÷ 0
            loss_sum += loss.detach()
        square = gradients.squared_norm(gradients.held(self.engine), self.device)
        totals = torch.stack([loss_sum, square, scalar(self.watch.waited), scalar(self.stop_requested)])
        dist.all_reduce(totals)
        total, squares, waited, stop, tokens = torch.cat([totals, predicted[None]]).tolist()
        self.engine.step(learning_rate(step.number, self.config.optimizer, self.config.schedule))
        return StepDone(
            total / max(tokens, 1), math.sqrt(squares), int(tokens), waited / self.world_size, stop=bool(stop)
        )

    def save(self, step: int) -> None:
        checkpoint.save(self.run, self.engine, step, {**self.stamp, **self.counters.consumed(step)})
        if self.rank == 0:
            self.run.prune(self.config.checkpoint.keep_last)


def train(trainer: Trainer) -> None:
    """Train to `schedule.total_steps`, or until a stop: a checkpoint is then saved first.

    Raises:
        Stopped: on a signal, or at `stop_at_step`. RunError: it diverged, or a checkpoint could not be written.
    """
    config, geometry = trainer.config, trainer.geometry
    first, last = trainer.resume(), config.schedule.total_steps
    dist.barrier()  # every rank has chosen
    if trainer.rank == 0:
        trainer.run.set_aside_after(first)
        trainer.run.forget_metrics_after(first if first else -1)
    metrics = Metrics(trainer.run if trainer.rank == 0 else None, first, last)
    metrics.say(f"{geometry}; ZeRO stage {trainer.engine.stage}, {trainer.device.type}; steps {first} to {last}")

    def evaluate(done: int) -> None:
        scores = trainer.held_out.scores(trainer.engine.model, trainer.device, trainer.rank, trainer.world_size)
        check_finite(done, {"held-out loss": scores.loss, "pseudo-perplexity": scores.pseudo_perplexity or 0})
        metrics.evaluation(done, scores.loss, scores.pseudo_perplexity)

    if first == 0:
        evaluate(0)
    try:
        trainer.watch.restart()
        for step in trainer.watch.waiting(steps(trainer.batches, trainer.rank, first, last, config.loader_workers)):
            result = trainer.train_step(step)
            done = step.number + 1
            check_finite(done, {"loss": result.loss, "gradient norm": result.grad_norm})
            metrics.train(done, {
                "loss": result.loss,
                "learning_rate": learning_rate(step.number, config.optimizer, config.schedule),
                "grad_norm": result.grad_norm,
                "predicted_tokens": result.predicted_tokens,
                **trainer.counters.speed(result.predicted_tokens, trainer.watch.lap(), result.waited),
                **trainer.counters.consumed(done),
            })  # fmt: skip
            stop = (result.stop or (config.stop_at_step is not None and done >= config.stop_at_step)) and done < last
            if done % config.evaluation.every_steps == 0 or done == last:
                evaluate(done)
            if done % config.checkpoint.every_steps == 0 or done == last or stop:
                trainer.save(done)
            trainer.watch.restart()
            if stop:
                saved = trainer.run.checkpoint(done)
                raise Stopped(f"stopped after step {done} of {last}, saved in {saved}; run it again to go on")
    finally:
        metrics.close()


def check_finite(step: int, values: dict[str, float]) -> None:
    """Stop before anything is saved; every rank sees the same values.

    Raises:
        RunError: names the first one that is no finite number.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise RunError(
                f"step {step}: the {name} is {value}: the run has diverged and nothing was saved of it;"
                " lower optimizer.learning_rate, or set optimizer.max_grad_norm"
            )


def main(config_path: Path) -> int:
    """One rank; returns its exit code."""
    device = start_processes()
    try:
        train(Trainer(load_config(PretrainConfig, config_path), device))
    except (UserError, OSError) as error:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # asked again
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the launcher's
        if dist.get_rank() != 0:
            time.sleep(60)  # the launcher kills all ranks once one ends: rank 0 meets the same error and speaks for all
        print(f"kilobatch: {error}", file=sys.stderr, flush=True)
        return error.exit_code if isinstance(error, UserError) else RunError.exit_code
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    end_process(main(Path(sys.argv[1])))
