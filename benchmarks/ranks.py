"""Two ranks of one core each beside one rank of one core: what communication and the engine leave of twice the speed.

    python -m benchmarks.ranks [SETTING] [--accumulated N] [--rounds N]

The same effective batch, ZeRO 1, `--accumulated` micro-batches a step on each of two ranks; each rank is bound to a
core of its own (taskset, one OpenMP thread). The runs alternate; a run gives the median of its steps behind the first.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.train_step import ours
from benchmarks.train_step.report import Rounds, Run, speed_ratio
from benchmarks.train_step.settings import SETTINGS, write_config, write_corpus

ASKED = 1.9


def main(arguments: argparse.Namespace) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("benchmarks.ranks: needs two cores")
    # Both runs make the same step: of what two ranks accumulate, one does all.
    setting = replace(SETTINGS[arguments.setting], accumulated=2 * arguments.accumulated)
    rounds: Rounds = {"one": [], "two": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder, setting)
        for number in range(arguments.rounds):
            for ranks, cpus in (("one", cores[:1]), ("two", cores)):
                config = write_config(folder / f"{ranks}-{number}", corpus, setting, "fp32", 1 + arguments.steps)
                rounds[ranks].append(Run.of(ours.train(config, 1, cpus), 1))
    table = Table(f"fp32, ZeRO 1, {setting}", "tokens/s")
    for ranks, runs in rounds.items():
        table.add_row(f"{ranks} rank(s) of one core", f"{setting.tokens / median(run.seconds for run in runs):,.0f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"two beside one: {speed_ratio(rounds, 'two', 'one'):.2f} × (asked: {ASKED})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", nargs="?", choices=SETTINGS, default="small")
    parser.add_argument("--accumulated", type=int, default=32, help="micro-batches a step on each of two ranks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="counted, of each run")
    main(parser.parse_args())
