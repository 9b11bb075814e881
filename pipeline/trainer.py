"""One rank of a run: what its steps share, and one step. `pipeline.train` is the loop over it."""

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.profiler import record_function

from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.agreement import agree
from pipeline.checkpoints.run_folder import RunFolder, check_provenance, stamp
from pipeline.checkpoints.saving import Saver
from pipeline.corpus.shards import Corpus
from pipeline.encoder.initial import initial_model, load_start
from pipeline.engine import gradients
from pipeline.engine.deepspeed_json import read_deepspeed_json
from pipeline.engine.engine import Engine, bound_collectives, check_precision
from pipeline.engine.optim import build_optimizer, learning_rate
from pipeline.errors import LeftAtOnce, UserError
from pipeline.evaluate import HeldOut
from pipeline.keyed import derive
from pipeline.pretrain_config import PretrainConfig
from pipeline.rank import end_process
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.data import MicroBatch, Step, TrainBatches, steps
from pipeline.samples.position import Position
from pipeline.watching.counters import Counters
from pipeline.watching.guard import Guard, unsound
from pipeline.watching.rank_log import note_failure
from pipeline.watching.replicas import ReplicasDiffer, compare_replicas
from pipeline.watching.stopwatch import Stopwatch
from pipeline.watching.watchdog import Watchdog


@dataclass(frozen=True)
class StepDone:
    """What the ranks know together of a step."""

    loss: float  # nats a predicted token
    grad_norm: float  # of the whole gradient, before clipping
    unsound: str | None  # why it was skipped
    overflow: bool  # the loss scale was too large for it, so that it was skipped and the next scale is smaller
    scaling: dict[str, float]  # in fp16: the loss scale that it had, and how many overflows there have been
    computed: tuple[int, int, int]  # tokens without padding, pairs of them that attend, predicted tokens
    waited: float  # seconds for data, of the mean rank
    stop: bool  # a rank was asked to
    save: bool  # it is time to


class Trainer:
    """What the steps of one rank share.

    Args:
        watchdog: of this process, who is told of every progress; None where nobody watches.
    """

    def __init__(self, config: PretrainConfig, device: torch.device, watchdog: Watchdog | None = None) -> None:
        self.config, self.device = config, device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.run = RunFolder(config.output)
        self.watchdog = watchdog or Watchdog(config.watchdog, self.run.log, self.rank, self.world_size)
        self.geometry = BatchGeometry(
            config.batch.train_batch_size, config.batch.train_micro_batch_size_per_gpu, self.world_size
        )
        corpus = Corpus(config.corpus)
        corpus.verify_sizes()
        self.batches = TrainBatches(config.corpus, config, self.geometry)
        self.held_out = HeldOut(corpus, config.batch.sequence_length, config.evaluation, config.batch.documents)
        settings = read_deepspeed_json(config.deepspeed)
        check_precision(config.deepspeed, settings)
        model = initial_model(config, corpus)
        if config.model.init_from and not self.run.steps():  # else a checkpoint's weights follow
            said = load_start(model, config.model)
            if self.rank == 0:
                print(said, flush=True)
        if config.compile:
            model.compile_layers()
        optimizer = build_optimizer(model.to(device), config.optimizer)
        self.engine = Engine(model, optimizer, self.geometry, settings, config.optimizer.max_grad_norm)
        bound_collectives(self.watchdog.longest)  # of the groups that DeepSpeed made, too
        dtype = next(model.parameters()).dtype
        self.counters = Counters(config, self.geometry, corpus.vocab_size, device, dtype)
        self.watch, self.guard = Stopwatch(self.watchdog.now), Guard(config.guard)
        self.stamp = stamp(config, corpus)
        self.saver = Saver(self.run, self.engine, config.checkpoint.every_minutes, self.watchdog.alive)
        self.part: Callable[[str], AbstractContextManager[None]] = record_function  # names a part of a step
        self.stop_requested = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._request_stop)

    def _request_stop(self, number: int, frame: object) -> None:
        """A first signal ends the run behind the step that is being made; a second one ends it at once."""
        if self.stop_requested:
            end_process(note_failure(LeftAtOnce(number)))
        self.stop_requested = True

    def resume(self) -> Position:
        """Load the newest checkpoint that is sound to all ranks, as `resume` allows; where it was saved."""
        self.watchdog.now("load")
        manifest, broken = self.run.to_resume(self.config.resume)
        manifest = agree(self.run, manifest)
        if manifest is not None:
            check_provenance(manifest, self.stamp, self.run.checkpoint(manifest["step"]))
        self._load(manifest, broken)
        return Position.of(manifest) if manifest else Position()

    def roll_back(self, position: Position, reason: str) -> Position:
        """Load the newest sound checkpoint from before the skipped steps; where to go on from it, behind their data.

        Raises:
            RunError: there is none, or it did not help before.
        """
        self.watchdog.now("load")
        self.finish_save()
        before, every = position.step - position.skipped_in_a_row, self.config.checkpoint.every_steps
        manifest, broken = self.run.newest_sound(before, every)  # where a run goes back to that was never stopped
        if manifest is None:
            manifest, broken = self.run.newest_sound(before)
        manifest = agree(self.run, manifest)
        self.guard.check_roll_back(position, manifest["step"] if manifest else None, reason)
        assert manifest is not None
        self._load(manifest, broken)
        return position.rolled_back(manifest)

    def _load(self, manifest: dict[str, Any] | None, broken: list[UserError]) -> None:
        for error in broken if self.rank == 0 else []:
            print(f"kilobatch: passed over: {error}", file=sys.stderr, flush=True)
        if manifest is not None:
            checkpoint.load(self.run.checkpoint(manifest["step"]), manifest, self.engine)
        dist.barrier()  # every rank has chosen

    def steps(self, position: Position, last: int) -> Iterator[Step]:
        """This rank's part of every step from here on."""
        workers, on_gpu = self.config.loader_workers, self.device.type == "cuda"
        return steps(self.batches, self.rank, position.step, last, workers, jumps=position.jumps, pin=on_gpu)

    def loss(self, batch: MicroBatch) -> Tensor:
        """Σ loss of a micro-batch on the device; its dropout depends on its global index alone."""
        torch.manual_seed(derive("dropout", self.config.seed, batch.index))
        loss: Tensor = self.engine.deepspeed(batch.input_ids, batch.sequences, batch.positions, batch.labels)
        return loss

    def train_step(self, step: Step) -> StepDone:
        """One update. The device is read once, before it, so that nothing waits for the device in between."""

        def scalar(value: float) -> Tensor:
            return torch.full((), value, dtype=torch.float64, device=self.device)

        self.watchdog.step(step.number + 1)
        predicted, loss_sum, computed = scalar(step.predicted_tokens), scalar(0), (0, 0)
        dist.all_reduce(predicted)
        for batch in self.watch.waiting(step.micro_batches):
            computed = (computed[0] + batch.computed[0], computed[1] + batch.computed[1])
            with self._in("forward"):
                loss = self.loss(batch.to(self.device))
            with self._in("backward"):
                self.engine.backward(loss, predicted.clamp(min=1))  # without predicted tokens zero, not 0 ÷ 0
            loss_sum += loss.detach()
        with self._in("counters"):
            square = gradients.squared_norm(self.engine)
            bad = (~loss_sum.isfinite()).double()
            told = [self.watch.waited, self.stop_requested, self.saver.due, self.saver.ready, *computed]
            mine = [loss_sum, square, bad, bad * self.rank, *map(scalar, told)]
            dist.all_reduce(totals := torch.stack(mine))
            loss_all, squares, bad_ranks, bad_rank, waited, stop, due, ready, tokens, pairs, predicted_all = torch.cat(
                [totals, predicted[None]]
            ).tolist()
        loss, grad_norm = loss_all / max(predicted_all, 1), math.sqrt(squares)
        scale = self.engine.loss_scale
        scaling = {"loss_scale": scale.value} if scale else {}
        overflow = scale is not None and scale.too_large(loss, grad_norm)
        reason = None if overflow else unsound(loss, grad_norm, int(bad_ranks), int(bad_rank))
        with self._in("update"):
            if overflow or reason:
                gradients.discard(self.engine)
            else:
                rate = learning_rate(step.number, self.config.optimizer, self.config.schedule)
                self.engine.step(rate, grad_norm)
        if scale:
            if overflow:
                scale.move(overflow=True)
            scaling["overflows"] = scale.overflows
        if ready == self.world_size:
            self.saver.settle()
        done = (int(tokens), int(pairs), int(predicted_all))
        waited /= self.world_size
        return StepDone(loss, grad_norm, reason, overflow, scaling, done, waited, stop=bool(stop), save=bool(due))

    def _in(self, part: str) -> AbstractContextManager[None]:
        self.watchdog.now(part)
        return self.part(part)

    def compare_replicas(self, step: int, save: bool) -> None:
        """Where it is time for it; raises `ReplicasDiffer` on every rank."""
        if self.guard.must_compare(step, save):
            self.watchdog.now("replicas")
            try:
                compare_replicas(self.engine, step)
            except ReplicasDiffer:
                self.finish_save()  # what was saved before was compared before
                raise

    def save(self, position: Position) -> None:
        """Begin a checkpoint; `finish_save` ends it."""
        self.watchdog.now("checkpoint")
        counters = {**position.stamp(), **self.counters.consumed(position.data_step)}
        self.saver.begin(position.step, {**self.stamp, **counters}, lambda: self._prune(position))

    def finish_save(self) -> None:
        """Wait until the checkpoint that was begun, if any, is there and older ones are pruned."""
        self.watchdog.now("checkpoint")
        self.saver.finish()

    def _prune(self, saved: Position) -> None:
        if saved.skipped_in_a_row:  # a roll-back may want the last ones
            return
        try:
            self.run.prune(self.config.checkpoint)
        except OSError as error:  # a file that another machine reads, say: no reason to end a run
            print(f"kilobatch: not deleted: {error.filename}: {error.strerror}", file=sys.stderr, flush=True)
