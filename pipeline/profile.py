"""Where the time of a step goes: `kilobatch pretrain CONFIG --profile`, as one rank of a group.

A few steps are taken from where the run stands and thrown away: no checkpoint is saved and no line is logged. Rank 0
writes RUN/profile/trace.json (for chrome://tracing or ui.perfetto.dev) and the tables that it prints.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, record_function, schedule

from pipeline import train
from pipeline.files import write_bytes
from pipeline.trainer import Trainer

WARM_UP, STEPS, OPERATORS = 2, 3, 12
PARTS = {
    "data wait": "until a micro-batch is there",
    "forward": "the copy to the device, and the loss",
    "backward": "with the reduction of gradients",
    "counters": "norm, loss and counts of all ranks: waits for the slowest",
    "update": "the optimizer, and the gathering of weights",
}
COMMUNICATION = ("c10d::", "gloo:", "nccl:", "ncclDevKernel")


def profile(trainer: Trainer) -> None:
    """Take the steps, then say where their time went."""
    position = trainer.resume()
    on_gpu = trainer.device.type == "cuda"
    if on_gpu:
        trainer.part = _waited_for
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(
        activities=activities, schedule=schedule(wait=0, warmup=WARM_UP, active=STEPS)
    ) as found:
        for step in trainer.watch.waiting(trainer.steps(position, position.step + WARM_UP + STEPS)):
            trainer.train_step(step)
            if step.number < position.step + WARM_UP + STEPS - 1:
                found.step()
    if trainer.rank == 0:
        report(found, trainer.run.path / "profile", on_gpu)


@contextmanager
def _waited_for(name: str) -> Iterator[None]:
    """On a GPU, which works behind the host's back: a part ends when the device has done it."""
    with record_function(name):
        yield
        torch.cuda.synchronize()


def report(found: torch.profiler.profile, folder: Path, on_gpu: bool) -> None:
    """Write trace.json and tables.txt, and print the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    found.export_chrome_trace(str(folder / "trace.json"))
    events = {event.key: event for event in found.key_averages()}
    console = Console(highlight=False, record=True, soft_wrap=True)
    console.print(_parts(events))
    console.print(_operators(events, on_gpu))
    write_bytes(folder / "tables.txt", console.export_text().encode())
    console.print(f"{folder / 'trace.json'}: open it in chrome://tracing or ui.perfetto.dev", soft_wrap=True)


def _parts(events: dict[str, Any]) -> Table:
    milliseconds = {name: events[name].cpu_time_total / 1000 / STEPS if name in events else 0.0 for name in PARTS}
    total = sum(milliseconds.values())
    table = Table("part of a step", "ms", "share", "", title=f"rank 0, mean of {STEPS} steps")
    for name, spent in milliseconds.items():
        table.add_row(name, f"{spent:,.1f}", f"{spent / total:.1%}", PARTS[name])
    spent = sum(e.self_cpu_time_total for key, e in events.items() if key.startswith(COMMUNICATION)) / 1000 / STEPS
    table.add_row("(communication)", f"{spent:,.1f}", f"{spent / total:.1%}", "inside the others")
    return table


def _operators(events: dict[str, Any], on_gpu: bool) -> Table:
    """Those that took the most time themselves, without what they called."""
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    skipped = (*PARTS, "ProfilerStep")
    real = [event for name, event in events.items() if not name.startswith(skipped)]
    table = Table("operator", "ms", "calls", title=f"most time {'on the GPU' if on_gpu else 'on the CPU'}, a step")
    for event in sorted(real, key=lambda event: getattr(event, key), reverse=True)[:OPERATORS]:
        table.add_row(event.key[:60], f"{getattr(event, key) / 1000 / STEPS:,.1f}", f"{event.count / STEPS:,.0f}")
    return table


def main(config_path: Path) -> int:
    """One rank; returns its exit code."""
    return train.main(config_path, profile)
