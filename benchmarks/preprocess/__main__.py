"""Preprocessing on two processes beside peers that read the same text; whole commands, alternating, medians of ratios.

    python -m benchmarks.preprocess [--megabytes 138] [--near-megabytes 10] [--rounds 3] [--only exact|near] [FILE…]

FILEs are plain text or `<doc>` files; without any, the demo's plays are repeated. The sides:

    ours            kilobatch preprocess, exact duplicates dropped, --direct_running_mode=multi_processing
    ours, given     the same, given the tokenizer that the first trained, as run_mlm is
    plain           a script of two processes that calls the same functions and writes the same shards
    datasets.map    run_mlm's tokenising and grouping alone, with our tokenizer
    ours, near      kilobatch preprocess with dedup.near, on the first --near-megabytes
    datatrove       its MinHash pipeline alone, on the same

and what each stage of ours takes, and the largest worker process at the whole and at half of the text.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.preprocess import texts
from benchmarks.preprocess.measure import Ran, command

WORKERS = 2
BEAM = ["--", "--direct_running_mode=multi_processing", f"--direct_num_workers={WORKERS}"]
TRAINED = {"vocab_size": 8192, "sample_characters": 10_000_000}


@dataclass
class Bench:
    """One folder of text and where the sides write."""

    folder: Path
    name: str
    near: bool = False

    @property
    def files(self) -> list[str]:
        return [str(path) for path in sorted((self.folder / self.name).iterdir())]

    def config(self, output: Path, tokenizer: Path | None = None) -> Path:
        """A configuration's file; with a tokenizer, that is taken and none trained."""
        values = {
            "output": str(output),
            "sources": [{"type": "jsonl", "paths": self.files}],
            "dedup": {"near": {} if self.near else None},
            "tokenizer": {"type": "loaded", "path": str(tokenizer)} if tokenizer else TRAINED,
            "sequence_lengths": [128, 512],
        }
        path = self.folder / f"{self.name}.yaml"
        path.write_text(json.dumps(values))  # JSON is YAML
        return path

    def fresh(self, name: str) -> Path:
        output = self.folder / f"out-{self.name}-{name}"
        shutil.rmtree(output, ignore_errors=True)
        return output

    def ours(self) -> Ran:
        return command("launch.cli", "preprocess", str(self.config(self.fresh("ours"))), *BEAM)

    def given(self) -> Ran:
        tokenizer = self.folder / f"out-{self.name}-ours" / "tokenizer"
        return command("launch.cli", "preprocess", str(self.config(self.fresh("given"), tokenizer)), *BEAM)

    def plain(self) -> Ran:
        output = self.fresh("plain")
        ran = command("benchmarks.preprocess.plain", str(self.config(output)))
        for path in output.iterdir():
            same = (self.folder / f"out-{self.name}-ours" / path.name).read_bytes() == path.read_bytes()
            assert same, f"{path.name}: the plain script wrote other bytes"
        return ran

    def run_mlm(self) -> Ran:
        tokenizer = self.folder / f"out-{self.name}-ours" / "tokenizer"
        return command("benchmarks.preprocess.run_mlm", str(tokenizer), str(self.fresh("run_mlm")), *self.files)

    def datatrove(self) -> Ran:
        texts = str(self.folder / self.name)
        return command("benchmarks.preprocess.datatrove_minhash", str(self.fresh("datatrove")), texts)


def show(console: Console, size: int, rows: dict[str, list[Ran]]) -> None:
    table = Table("side", "MB/s", "seconds", "CPU seconds", "largest process, MB")
    for name, rounds in rows.items():
        seconds = median(ran.seconds for ran in rounds)
        largest = max(ran.largest for ran in rounds) / 1e6
        processors = median(ran.processors for ran in rounds)
        table.add_row(name, f"{size / 1e6 / seconds:.2f}", f"{seconds:.1f}", f"{processors:.1f}", f"{largest:,.0f}")
    console.print(table)


def show_stages(console: Console, size: int, rounds: list[Ran], side: str = "ours") -> None:
    table = Table(f"stage of {side}", "seconds", "share", "MB/s")
    whole = median(ran.seconds for ran in rounds)
    for name in rounds[0].stages:
        seconds = median(ran.stages[name] for ran in rounds)
        table.add_row(name, f"{seconds:.1f}", f"{seconds / whole:.0%}", f"{size / 1e6 / max(seconds, 0.01):.1f}")
    console.print(table)


def ratio(mine: list[Ran], theirs: list[Ran]) -> float:
    return median(their.seconds / my.seconds for my, their in zip(mine, theirs, strict=True))


def exact(folder: Path, size: int, rounds: int, console: Console) -> None:
    bench = Bench(folder, "texts")
    rows: dict[str, list[Ran]] = {"ours": [], "ours, given": [], "plain": [], "datasets.map": []}
    for _ in range(rounds):
        rows["ours"].append(bench.ours())
        rows["ours, given"].append(bench.given())
        rows["plain"].append(bench.plain())
        rows["datasets.map"].append(bench.run_mlm())
    show(console, size, rows)
    show_stages(console, size, rows["ours"])
    show_stages(console, size, rows["ours, given"], "ours, given")
    console.print(f"beside the plain script: {ratio(rows['ours'], rows['plain']):.2f} × its MB/s (asked: 0.70)")
    console.print(
        f"beside datasets.map, which is given its tokenizer: {ratio(rows['ours, given'], rows['datasets.map']):.2f} ×"
        f" its MB/s given the same one (asked: 3), {ratio(rows['ours'], rows['datasets.map']):.2f} × with training it"
    )
    half = Bench(folder, "half").ours()
    largest = max(ran.largest for ran in rows["ours"])
    console.print(
        f"largest process: {largest / 1e6:,.0f} MB (asked: 2,000);"
        f" {(largest - half.largest) / (size / 2):+.2f} bytes a further byte of text (asked: 2.5)"
    )


def near(folder: Path, size: int, rounds: int, console: Console) -> None:
    bench = Bench(folder, "near", near=True)
    rows: dict[str, list[Ran]] = {"ours, near": [], "datatrove": []}
    for _ in range(rounds):
        rows["ours, near"].append(bench.ours())
        rows["datatrove"].append(bench.datatrove())
    show(console, size, rows)
    show_stages(console, size, rows["ours, near"])
    found = ("hashing for near-duplicates", "finding near-duplicates")

    def times(*stages: str) -> float:
        mine = median(sum(ran.stages[stage] for stage in stages) for ran in rows["ours, near"])
        return median(ran.seconds for ran in rows["datatrove"]) / mine

    console.print(
        "beside datatrove's MinHash, which reads texts and writes those that stay: ours as far as that"
        f" {times('reading and cleaning', *found):.1f} × its MB/s (asked: 3), to the finished corpus"
        f" {ratio(rows['ours, near'], rows['datatrove']):.1f} ×; near-duplicates alone {times(*found):.0f} ×"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--megabytes", type=float, default=138)
    parser.add_argument("--near-megabytes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["exact", "near"], help="one of the two comparisons")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=110)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = (("texts", 1.0), ("half", 0.5), ("near", arguments.near_megabytes / arguments.megabytes))
        sizes = {}
        for part, share in parts:
            (folder / part).mkdir()
            wanted = arguments.megabytes * share
            sizes[part] = texts.write(folder / part, arguments.files, wanted, Path("demo/raw"))
        console.print(f"{sizes['texts'] / 1e6:.0f} MB of text, {WORKERS} processes")
        if arguments.only != "near":
            exact(folder, sizes["texts"], arguments.rounds, console)
        if arguments.only == "exact":
            return
        if find_spec("datatrove") is None:
            console.print("datatrove is not installed: pip install 'kilobatch[bench]'")
            return
        near(folder, sizes["near"], arguments.rounds, console)


if __name__ == "__main__":
    main()
