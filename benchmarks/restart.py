"""From a rank's death to the next step of the restarted run, and where that time goes.

    python -m benchmarks.restart [SETTING] [--rounds N]

`kilobatch pretrain` trains on two CPU ranks (on GPUs where there are any) without a wait before a restart. Once it has
a checkpoint, a rank is killed −9, `--rounds` times; the parts are what rank 0's log says, medians over the rounds.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.train_step.settings import SETTINGS, write_config, write_corpus
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.watching.rank_log import read_events

STEPS = 1_000_000  # never reached
PARTS = {
    "launch": "the end of the others is awaited, the launcher starts and imports DeepSpeed",
    "imported": "the ranks import torch and DeepSpeed",
    "joined": "they find each other",
    "built": "corpus, model, optimizer, ZeRO",
    "loaded": "the checkpoint is verified and read",
    "first data": "loader workers start, and have counted a step's predicted tokens",
    "first step": "forward, backward, update",
}
SETTINGS_OF_THE_RUN = ["cpu_ranks=2", "checkpoint.every_steps=2", "restarts.first_wait_seconds=0"]


def wait_for(what: Callable[[], bool], running: subprocess.Popen[bytes]) -> None:
    while not what():
        if running.poll() is not None:
            sys.exit("benchmarks.restart: the run has ended")
        time.sleep(0.02)


def times_of(log: Path, start: int) -> dict[str, float]:
    """When rank 0 came where; at the end, when all ranks had done a step."""
    events = read_events(log, start)
    if not events or not all(any(event["event"] == "first step" for event in of_rank) for of_rank in events.values()):
        return {}
    return {event["event"]: event["time"] for event in events[0]}


def measure(config: Path, rounds: int) -> tuple[list[dict[str, float]], int]:
    """Seconds of each part in each round, and the bytes of a checkpoint."""
    run, found = RunFolder(config.parent / "run"), []
    command = [sys.executable, "-m", "launch.cli", "pretrain", str(config), f"output={run.path}", *SETTINGS_OF_THE_RUN]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for start in range(1, rounds + 1):
            reached = max(run.steps(), default=0)
            wait_for(lambda start=start: bool(times_of(run.log, start)), running)
            wait_for(lambda reached=reached: max(run.steps(), default=0) > reached, running)
            killed = time.time()
            os.kill(read_events(run.log, start)[1][0]["pid"], signal.SIGKILL)
            wait_for(lambda start=start: bool(times_of(run.log, start + 1)), running)
            times = times_of(run.log, start + 1)
            moments = [killed, times["start"], *(times[name] for name in PARTS if name != "launch")]
            found.append(dict(zip(PARTS, (after - before for before, after in pairwise(moments)), strict=True)))
        size = sum(path.stat().st_size for path in run.checkpoint(run.steps()[-1]).iterdir())
        running.send_signal(signal.SIGTERM)
        running.wait()
    finally:
        running.kill()
    return found, size


def main(arguments: argparse.Namespace) -> None:
    setting = SETTINGS[arguments.setting]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_config(folder / "settings", write_corpus(folder, setting), setting, "fp32", STEPS)
        rounds, size = measure(config, arguments.rounds)
    table = Table(f"{setting}, checkpoint of {size / 1e6:,.1f} MB", "s", "share", "")
    seconds = {part: median(of_round[part] for of_round in rounds) for part in PARTS}
    total = median(sum(of_round.values()) for of_round in rounds)
    for part, spent in seconds.items():
        table.add_row(part, f"{spent:.2f}", f"{spent / total:.0%}", PARTS[part])
    console = Console(highlight=False)
    console.print(table)
    console.print(f"from kill −9 to the next step: {total:.1f} s, the median of {len(rounds)}")
    console.print(json.dumps({"seconds": total, **seconds}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", nargs="?", choices=SETTINGS, default="small")
    parser.add_argument("--rounds", type=int, default=3)
    main(parser.parse_args())
