"""The whole of Kilobatch on real text, in minutes on two cores: `python -m launch.demo`, or `make demo`.

Each step is a `kilobatch` command that a user could type, and is printed before it runs. Pretraining is stopped
half-way on purpose and submitted again. A second run finds everything done.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from launch.demo_genre import write_sets
from launch.demo_text import ATTRIBUTION, fetch
from pipeline.configfile import load_config
from pipeline.errors import Stopped
from pipeline.files import read_json
from pipeline.pretrain_config import PretrainConfig

DEMO = Path("demo")
PRETRAIN = Path("configs/pretrain/demo.yaml")
console = Console(highlight=False)


def kilobatch(*arguments: str, accepted: tuple[int, ...] = (0,)) -> int:
    """Print and run one command; the demo ends with its exit code unless that is accepted."""
    console.print(f"\n[bold]$ {' '.join(['kilobatch', *arguments])}[/bold]")
    code = subprocess.run([sys.executable, "-m", "launch.cli", *arguments]).returncode
    if code not in accepted:
        sys.exit(code)
    return code


def metrics(event: str) -> list[dict[str, Any]]:
    lines = (DEMO / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [values for values in map(json.loads, lines) if values["event"] == event]


def summary(seconds: float) -> Table:
    """What came out and where it lies."""
    corpus = read_json(DEMO / "corpus" / "manifest.json")
    held_out, steps = metrics("eval"), metrics("train")
    speeds = sorted(step["tokens_per_second"] for step in steps)
    scores = read_json(DEMO / "finetune" / "scores.json")
    pretrained, random, margin = (scores[name] for name in ("pretrained", "random", "margin"))
    table = Table("", "", "where")
    tokens = sum(split["tokens"] for split in corpus["splits"].values())
    table.add_row("corpus", f"{tokens:,} tokens", "demo/corpus")
    table.add_row(
        "pretraining",
        f"{steps[-1]['consumed_tokens']:,} tokens at {speeds[len(speeds) // 2]:,.0f} a second",
        "demo/run",
    )
    table.add_row(
        "held-out loss", f"{held_out[0]['loss']:.3f} before, {held_out[-1]['loss']:.3f} after", "demo/run/metrics.jsonl"
    )
    table.add_row("exported model", "loads with AutoModelForMaskedLM", "demo/model")
    table.add_row(
        "genre: accuracy", f"{pretrained['accuracy']:.3f}, random weights {random['accuracy']:.3f}", "demo/finetune"
    )
    table.add_row(
        "genre: macro-F1", f"{pretrained['macro_f1']:.3f}, random weights {random['macro_f1']:.3f}", "demo/finetune"
    )
    table.add_row(
        "margin", f"accuracy {margin['accuracy']:+.3f}, macro-F1 {margin['macro_f1']:+.3f}", "demo/finetune/scores.json"
    )
    table.add_row("time", f"{seconds:.0f} s", "")
    return table


def main() -> None:
    begin = time.monotonic()
    try:
        fetch(DEMO / "raw")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # pip has said why
    console.print(ATTRIBUTION)
    kilobatch("preprocess", "configs/corpus/demo.yaml")
    kilobatch("corpus", "verify", "demo/corpus")
    config = load_config(PretrainConfig, PRETRAIN)
    half = config.schedule.total_steps // 2
    stop, command = f"stop_at_step={half}", ("pretrain", str(PRETRAIN))
    code = kilobatch(*command, stop, accepted=(0, Stopped.exit_code))
    if code == Stopped.exit_code:
        console.print(f"exit code {code}: stopped after a checkpoint; the same command goes on from there")
        kilobatch(*command)
    kilobatch("export", "demo/run", "demo/model")
    write_sets(DEMO / "raw" / "plays", DEMO / "genre")
    kilobatch("finetune", "configs/finetune/demo.yaml")
    console.print(summary(time.monotonic() - begin))


if __name__ == "__main__":
    main()
