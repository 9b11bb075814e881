"""A training step of ours beside the Hugging Face Trainer's and beside a bare loop of our model.

    python -m benchmarks.train_step                                   small, fp32
    python -m benchmarks.train_step base --rounds 1
    python -m benchmarks.train_step base-512 --memory --sides ours trainer --steps 1
    python -m benchmarks.train_step large-512 --dtype bf16 --mfu      on a GPU

`ours` is pipeline.train from the shards to the updated weights, through DeepSpeed ZeRO 1, its loader and its log.
`trainer` is RobertaForMaskedLM under the Trainer, as run_mlm sets it up, with fused AdamW, no clipping, a loader
process. `bare` is our model's forward, backward and fused AdamW on batches that lie ready, without the rest. All have
the same geometry, batch, dropout rates (0.1, in attention too), dtype and threads, on synthetic tokens. Each run is a
process of its own; the sides alternate, a run gives the median of its steps behind the warm-up, and ratios are medians
over the rounds. `--compile` compiles our layers, the bare loop's too, and the Trainer's model.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.train_step import ours
from benchmarks.train_step.report import Rounds, Run, Steps, memory_ratio, speed_ratio, table
from benchmarks.train_step.settings import DTYPES, SETTINGS, Setting, write_config, write_corpus

SIDES = ("ours", "trainer", "bare")
OF_BARE, OF_MEMORY = 0.9, 0.6  # asked: of the bare loop's tokens/s; of the Trainer's peak, at base-512


def run(side: str, config: Path, arguments: argparse.Namespace, threads: int) -> Steps:
    """The steps of one side, in a process of its own."""
    if side == "ours":
        return ours.train(config, threads)
    command = [sys.executable, "-m", f"benchmarks.train_step.{side}", str(config), arguments.dtype]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step_seconds"')]


def measure(setting: Setting, arguments: argparse.Namespace) -> Rounds:
    threads = len(os.sched_getaffinity(0))
    rounds: Rounds = {side: [] for side in arguments.sides}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder, setting)
        for number in range(arguments.rounds):
            for side in arguments.sides:
                steps = arguments.warm_up + arguments.steps
                path, dtype = folder / f"{side}-{number}", arguments.dtype
                config = write_config(path, corpus, setting, dtype, steps, arguments.compile)
                rounds[side].append(Run.of(run(side, config, arguments, threads), arguments.warm_up))
    return rounds


def main(arguments: argparse.Namespace) -> None:
    setting = SETTINGS[arguments.setting]
    rounds = measure(setting, arguments)
    console = Console(highlight=False)
    mfu = arguments.mfu and "ours" in rounds
    console.print(table(f"{arguments.dtype}, {setting}", rounds, setting.tokens, arguments.memory, mfu))
    if {"ours", "trainer"} <= rounds.keys():
        asked = setting.asked.get(arguments.dtype)
        wanted = f" (asked: {asked})" if asked else ""
        console.print(f"ours beside the Trainer: {speed_ratio(rounds, 'ours', 'trainer'):.2f} ×{wanted}")
        if arguments.memory:
            share = memory_ratio(rounds, "ours", "trainer")
            console.print(f"peak memory beside the Trainer's: {share:.0%} (asked at base-512: {OF_MEMORY:.0%})")
    if {"ours", "bare"} <= rounds.keys():
        console.print(f"ours beside the bare loop: {speed_ratio(rounds, 'ours', 'bare'):.2f} × (asked: {OF_BARE})")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("setting", nargs="?", choices=SETTINGS, default="small")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="counted, of each run")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before them")
    parser.add_argument("--memory", action="store_true", help="show the peak of each side")
    parser.add_argument("--mfu", action="store_true", help="show model FLOPs utilisation")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
