"""What a save costs the training loop, beside DeepSpeed's own save_checkpoint and load_checkpoint.

    python -m benchmarks.checkpoint            4 × 256, 8 micro-batches a step: the loop's stall as a share of a step
    python -m benchmarks.checkpoint base       RoBERTa-base: stall, time until it is published, loading, bytes on disk

One process trains; in each round it makes a few steps without a save, as many behind one of ours, and as many behind
one of DeepSpeed's, of the same engine (ZeRO 1, fp32). `stall` is how long the loop waits for the call, `with the steps
behind it` what all of it takes longer than the steps without a save: the writing takes memory bandwidth and a core,
which is left free on CPUs, as GPU nodes have cores to spare. `published` is until the checkpoint is whole and synced
while nothing is trained; DeepSpeed syncs nothing and digests nothing. Loading ours compares the digests too. All are
medians over the rounds.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from tests.ranks import free_port

os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) - 1))  # before torch is imported

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.train_step.settings import SETTINGS, Setting, write_config, write_corpus
from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.run_folder import verify_checkpoint
from pipeline.configfile import load_config
from pipeline.engine.engine import start_processes
from pipeline.pretrain_config import PretrainConfig
from pipeline.rank import end_process
from pipeline.samples.position import Position
from pipeline.trainer import Trainer

OF_STEP, OF_DEEPSPEED, BYTES = 0.1, 0.25, 12.0  # asked
CHOSEN = {
    "tiny": SETTINGS["tiny"],
    "small": SETTINGS["small"],
    "base": replace(SETTINGS["base"], micro=1, accumulated=8),
}
Found = dict[str, list[float]]  # what was measured → in each round


def timed(work: Callable[[], object]) -> float:
    """Seconds until it is done, on the device too."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


class Ours:
    """What a run does."""

    name = "ours"

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.folder = trainer, trainer.run.checkpoints

    def save(self, number: int) -> None:
        self.trainer.save(Position(number))

    def finish(self) -> None:
        self.trainer.finish_save()

    def load(self, number: int) -> None:
        path = self.trainer.run.checkpoint(number)
        checkpoint.load(path, verify_checkpoint(path), self.trainer.engine)


class DeepSpeeds:
    """Of the same engine."""

    name = "DeepSpeed"

    def __init__(self, trainer: Trainer) -> None:
        self.engine, self.folder = trainer.engine.deepspeed, trainer.run.path / "deepspeed"

    def save(self, number: int) -> None:
        self.engine.save_checkpoint(str(self.folder), tag=str(number))

    def finish(self) -> None:
        """It was done when it returned."""

    def load(self, number: int) -> None:
        path, _ = self.engine.load_checkpoint(str(self.folder), tag=str(number))
        assert path


def measure(trainer: Trainer, rounds: int, behind: int) -> tuple[Found, Found]:
    """What each side took in each round, by the same names; `a step` is one without a save."""
    sides = (Ours(trainer), DeepSpeeds(trainer))
    found: tuple[Found, Found] = (defaultdict(list), defaultdict(list))
    batches = iter(trainer.steps(Position(), trainer.config.schedule.total_steps))
    numel = sum(torch.Size(shape).numel() for shape in trainer.engine.shapes.values())

    def train() -> float:
        return timed(lambda: [trainer.train_step(next(batches)) for _ in range(behind)])

    for number in range(rounds + 1):
        for side, seconds in zip(sides, found, strict=True):
            plain = train()
            stall = timed(lambda side=side, number=number: side.save(2 * number))
            rest = train()
            side.finish()
            seconds["a step"].append(plain / behind)
            seconds["stall"].append(stall)
            seconds["with the steps behind it"].append(stall + rest - plain)
            shutil.rmtree(side.folder)
            published = timed(lambda side=side, number=number: (side.save(2 * number + 1), side.finish()))
            seconds["published"].append(published)
            seconds["bytes a parameter"].append(size_of(side.folder) / numel)
            seconds["load"].append(timed(lambda side=side, number=number: side.load(2 * number + 1)))
            shutil.rmtree(side.folder)
    return found


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def report(setting: Setting, ours: Found, theirs: Found) -> None:
    mine, other = ({name: median(values[1:]) for name, values in side.items()} for side in (ours, theirs))
    table = Table(f"fp32, ZeRO 1, {setting}", "ours", "DeepSpeed")
    for name in mine:
        digits = ".2f" if name == "bytes a parameter" else ",.3f"
        table.add_row(
            name if name.startswith("bytes") else f"{name}, s", f"{mine[name]:{digits}}", f"{other[name]:{digits}}"
        )
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    of_step, of_theirs = mine["stall"] / mine["a step"], mine["stall"] / other["stall"]
    console.print(f"stall, of a step: {of_step:.1%} (asked: {OF_STEP:.0%}) {verdict(of_step, OF_STEP)}")
    console.print(
        f"stall, of DeepSpeed's: {of_theirs:.2f} × (asked: {OF_DEEPSPEED}) {verdict(of_theirs, OF_DEEPSPEED)}"
    )
    disk = mine["bytes a parameter"]  # with headers and manifest, which do not grow with the tensors
    console.print(f"bytes on disk a parameter: {disk:.2f} (asked: {BYTES:.0f}) {verdict(round(disk, 1), BYTES)}")


def verdict(found: float, asked: float) -> str:
    return "reached" if found <= asked else "missed"


def main(arguments: argparse.Namespace) -> None:
    device, setting = start_processes(), CHOSEN[arguments.setting]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder, steps = Path(name), 4 * (arguments.rounds + 1) * arguments.behind
        config = write_config(folder / "run", write_corpus(folder, setting), setting, "fp32", steps)
        trainer = Trainer(load_config(PretrainConfig, config), device)
        trainer.engine.model.train()
        report(setting, *measure(trainer, arguments.rounds, arguments.behind))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", nargs="?", choices=CHOSEN, default="small")
    parser.add_argument("--rounds", type=int, default=3, help="counted; one before them makes the memory for copies")
    parser.add_argument("--behind", type=int, default=3, help="steps behind each save")
    parser.add_argument("--folder", type=Path, help="of the file system that is measured")
    main(parser.parse_args())
    end_process(0)
