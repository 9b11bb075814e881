"""What a run says of itself: one JSON object a line in metrics.jsonl, and a progress bar or lines for people."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pipeline.run_folder import RunFolder


class Metrics:
    """Written by rank 0 alone; the other ranks make one with `run=None`, which is silent.

    Args:
        run: the folder whose metrics.jsonl grows. first, last: the steps of this part of the run.
    """

    def __init__(self, run: RunFolder | None, first: int, last: int) -> None:
        self.file = run.metrics.open("a", encoding="utf-8") if run else None
        self.console = Console(quiet=run is None, highlight=False)
        self.bar: Progress | None = None
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
            self.bar = Progress(*columns, console=self.console)
            self.task = self.bar.add_task("", total=last, completed=first)
            self.bar.start()

    def say(self, message: str) -> None:
        """A line for people."""
        self.console.print(message, markup=False, soft_wrap=True)

    def train(self, step: int, values: dict[str, Any]) -> None:
        """The counters of a finished step (from 1)."""
        self._write({"event": "train", "step": step, **values})
        text = f"loss {values['loss']:.4f}  {values['tokens_per_second']:,.0f} tokens/s"
        if values["mfu"] is not None:
            text += f"  {100 * values['mfu']:.1f} % MFU"
        if self.bar:
            self.bar.update(self.task, completed=step, description=text)
        elif step % self.every == 0 or step == self.last:
            self.say(f"step {step}/{self.last}  {text}")

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
