"""What a run says of itself: one JSON object a line in metrics.jsonl, and a progress bar or lines for people."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn

from pipeline.checkpoints.run_folder import RunFolder
from pipeline.samples.position import Position
from pipeline.watching.bar import Bar
from pipeline.watching.guard import GuardConfig
from pipeline.watching.spikes import Spike, Window

DEFAULT = GuardConfig()
WATCHED = ("loss", "grad_norm")


class Metrics:
    """Written by rank 0 alone; the other ranks make one with `run=None`, which is silent.

    Args:
        run: the folder whose metrics.jsonl grows; what it has behind `first` is dropped.
        first, last: the steps of this part of the run. guard: what counts as a spike.
    """

    def __init__(self, run: RunFolder | None, first: int, last: int, guard: GuardConfig = DEFAULT) -> None:
        self.run, self.guard = run, guard
        self._begin(first, resuming=True)
        self.console = Console(quiet=run is None, highlight=False)
        self.bar: Bar | None = None
        self.task = TaskID(0)
        self.last, self.every = last, max(1, last // 20)
        if run and sys.stdout.isatty():
            columns = (
                TextColumn("pretrain"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
            )
            self.bar = Bar(*columns, console=self.console)
            self.task = self.bar.add_task("", total=last, completed=first)
            self.bar.start()

    def _begin(self, done: int, *, resuming: bool) -> None:
        """Go on behind so many steps; the windows of the spikes are those of a run that never stopped."""
        self.windows = [Window(name, self.guard.spike_window, self.guard.spike_sigmas) for name in WATCHED]
        self.file = None
        if self.run:
            after = done or -1  # the evaluation before the first step is done again
            self.run.forget_metrics_after(after, resuming=resuming)
            for line in self.run.last_steps(self.guard.spike_window + 1):  # the last is judged by a whole window
                self._spikes(line)
            self.file = self.run.metrics.open("a", encoding="utf-8")

    def _spikes(self, values: dict[str, Any]) -> list[Spike]:
        return [spike for window in self.windows if (spike := window.add(values[window.name]))]

    def say(self, message: str) -> None:
        """A line for people."""
        self.console.print(message, markup=False, soft_wrap=True)

    def train(self, step: int, values: dict[str, Any]) -> None:
        """The counters of a finished step (from 1)."""
        self._write({"event": "train", "step": step, **values})
        for spike in self._spikes(values):
            self._spike(step, spike)
        text = f"loss {values['loss']:.4f}  {values['tokens_per_second']:,.0f} tokens/s"
        if values["mfu"] is not None:
            text += f"  {100 * values['mfu']:.1f} % MFU"
        if self.bar:
            self.bar.update(self.task, completed=step, description=text)
        elif step % self.every == 0 or step == self.last:
            self.say(f"step {step}/{self.last}  {text}")

    def _spike(self, step: int, spike: Spike) -> None:
        figures = {"value": spike.value, "median": spike.median, "sigmas": spike.sigmas}
        self._write({"event": "spike", "step": step, "of": spike.name, **figures})
        if spike.first:
            self.say(
                f"step {step}/{self.last}  spike: {spike.name} {spike.value:.4g}, {spike.sigmas:.1f} sigma above the"
                f" median {spike.median:.4g} of the last {self.guard.spike_window} steps"
            )

    def skipped(self, position: Position, reason: str, skipped_steps: int) -> None:
        """The step that ends at `position` left the weights as they were."""
        found = {"reason": reason, "in_a_row": position.skipped_in_a_row, "skipped_steps": skipped_steps}
        self._write({"event": "skipped", "step": position.step, "data_step": position.data_step - 1, **found})
        self.say(
            f"step {position.step}/{self.last}  skipped on all ranks: {reason} ({position.skipped_in_a_row} in a row)"
        )

    def overflow(self, position: Position, values: dict[str, float]) -> None:
        """The step that ends at `position` left the weights as they were: its loss scale was too large for fp16."""
        self._write({"event": "overflow", "step": position.step, "data_step": position.data_step - 1, **values})
        self.say(
            f"step {position.step}/{self.last}  skipped on all ranks: its gradient is too large for fp16 at the loss"
            f" scale {values['loss_scale']:,.10g}"
        )

    def rolled_back(self, position: Position, back: Position) -> None:
        """What was done behind the checkpoint is forgotten, but not that it was."""
        if self.file:
            self.file.close()
        self._begin(back.step, resuming=False)
        data = {"from_step": position.step, "jumps": back.jumps, "data_step": back.data_step}
        self._write({"event": "rollback", "step": back.step, **data})
        self.say(
            f"step {position.step}/{self.last}  rolled back to the checkpoint of step {back.step};"
            f" the next step reads the data of step {back.data_step + 1}"
        )

    def evaluation(self, step: int, loss: float, pseudo_perplexity: float | None = None) -> None:
        also = {} if pseudo_perplexity is None else {"pseudo_perplexity": pseudo_perplexity}
        self._write({"event": "eval", "step": step, "loss": loss, **also})
        text = "" if pseudo_perplexity is None else f", pseudo-perplexity {pseudo_perplexity:,.2f}"
        self.say(f"step {step}/{self.last}  held-out loss {loss:.4f}{text}")

    def _write(self, values: dict[str, Any]) -> None:
        if self.file:
            self.file.write(json.dumps(values, allow_nan=False) + "\n")
            self.file.flush()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
        if self.file:
            self.file.close()
