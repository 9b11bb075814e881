"""How long preprocessing takes on many workers, on paper: from what every stage does on one core of this machine.

    python -m benchmarks.scale [--megabytes 40] [FILE…]

One process makes a corpus with near-duplicates of so much text (see `benchmarks.preprocess`) and keeps its stages. From
the time and the files of each come the rates below; the bytes of a shuffle are those of Beam's own coders. What is said
of large corpora supposes that every worker is a core like this one, that storage keeps up, and that the documents are
as long as those of the corpora named.
"""

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.preprocess import texts
from benchmarks.preprocess.measure import command
from preprocess import sample
from preprocess.graph import beam
from preprocess.run import Claim, Place

CORPORA = {  # bytes of text, documents
    "English Wikipedia and books": (16e9, 6.5e6),
    "RoBERTa's": (160e9, 80e6),  # Liu et al. 2019, 3.2: of them 63 M of CC-News, 8 M of OpenWebText
}
WORKERS = (8, 64, 512)
PROGRESS = {  # stage, as the progress lines name its pipelines
    "documents": ["reading and cleaning"],
    "near": ["hashing for near-duplicates", "finding near-duplicates"],
    "tokenizer": ["training the tokenizer"],
    "tokens": ["encoding"],
    "shards": ["packing"],
}
SAMPLE = 10_000_000  # characters that the tokenizer is trained on
DRIVER_CORES = 8  # which compute the digests of inputs, of stages and of the corpus


class Stage(NamedTuple):
    seconds: float
    written: float  # bytes a byte of text


def shuffled() -> dict[str, tuple[str, int]]:
    """What each GroupByKey of documents is given, and how many bytes one such element has."""
    hash, id = "0" * 64, "wikipedia/enwiki-20261101-pages-articles.xml.bz2#12345678"
    examples: dict[str, tuple[str, Any, Any]] = {
        "documents": ("each document", tuple[int, Claim], (2**62, (hash, id, 4000, 20_000, 2_500))),
        "shards": ("each kept document", tuple[int, Place], (500, (hash, 4000, 10**7, 10**7, 10**6, 10**6))),
    }
    coders = beam.coders.registry
    return {
        stage: (what, len(coders.get_coder(kind).encode(example))) for stage, (what, kind, example) in examples.items()
    }


def sha256_rate() -> float:
    """Bytes a second."""
    data = bytes(200_000_000)
    begin = time.perf_counter()
    hashlib.sha256(data)
    return len(data) / (time.perf_counter() - begin)


def measure(folder: Path, files: list[Path], megabytes: float) -> tuple[int, float, dict[str, Stage]]:
    """Make a corpus in one process; (bytes of text, seconds of training, what the rest of each stage took and left)."""
    (folder / "texts").mkdir()
    size = texts.write(folder / "texts", files, megabytes, Path("demo/raw"))
    config = {
        "output": str(folder / "corpus"),
        "stages": str(folder / "stages"),
        "sources": [{"type": "jsonl", "paths": [str(folder / "texts" / "*.jsonl")]}],
        "dedup": {"near": {}},
        "tokenizer": {"vocab_size": 32_768, "sample_characters": SAMPLE},
        "sequence_lengths": [128, 512],
    }
    (folder / "corpus.yaml").write_text(json.dumps(config))
    ran = command("launch.cli", "preprocess", str(folder / "corpus.yaml"))
    begin = time.perf_counter()
    below = 2**64 * SAMPLE // int(16e9)  # the share that is drawn of the smaller corpus
    for path in (folder / "stages").glob("documents-*/unit-*.parquet"):
        for row in pq.read_table(path).to_pylist():
            list(sample.draw_sentences(row["text"], row["hash"], 0, below))
    sampling = time.perf_counter() - begin

    def written(stage: str) -> int:
        folders = [folder / "corpus"] if stage == "shards" else list((folder / "stages").glob(f"{stage}-*"))
        return sum(path.stat().st_size for place in folders for path in place.rglob("*") if path.is_file())

    seconds = {stage: sum(ran.stages[name] for name in names) for stage, names in PROGRESS.items()}
    stages = {stage: Stage(seconds[stage], written(stage) / size) for stage in PROGRESS}
    training = max(0.0, stages["tokenizer"].seconds - sampling)
    return size, training, stages | {"tokenizer": stages["tokenizer"]._replace(seconds=sampling)}


def on_paper(size: int, stages: dict[str, Stage], text: float, workers: int) -> dict[str, float]:
    """Seconds of what a stage does on so many workers."""
    return {stage: text / size * done.seconds / workers for stage, done in stages.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--megabytes", type=float, default=40)
    arguments = parser.parse_args()
    console, elements, rate = Console(highlight=False, width=110), shuffled(), sha256_rate()
    with tempfile.TemporaryDirectory() as name:
        size, training, stages = measure(Path(name), arguments.files, arguments.megabytes)
    table = Table("stage", "MB/s a core", "written, bytes a byte of text", "shuffled", "bytes of it")
    for stage, (seconds, written) in stages.items():
        what, length = elements.get(stage, ("nothing but numbers of units", ""))
        table.add_row(stage, f"{size / 1e6 / seconds:.1f}", f"{written:.2f}", what, str(length))
    console.print(f"{size / 1e6:.0f} MB of text in one process; SHA-256 at {rate / 1e6:,.0f} MB/s")
    console.print(table)
    for corpus, (text, documents) in CORPORA.items():
        table = Table(f"{corpus}: minutes", *(f"{workers} workers" for workers in WORKERS))
        hashed = text * (1 + sum(done.written for done in stages.values()))
        alone = {"training (one process)": training, "digests (the driver)": hashed / rate / DRIVER_CORES}
        columns = [on_paper(size, stages, text, workers) | alone for workers in WORKERS]
        for stage in columns[0]:
            table.add_row(stage, *(f"{column[stage] / 60:,.1f}" for column in columns))
        table.add_row("in all", *(f"{sum(column.values()) / 60:,.1f}" for column in columns))
        console.print(table)
        moved = documents * (elements["documents"][1] + elements["shards"][1])
        console.print(f"  {text / 1e9:.0f} GB, {documents / 1e6:.1f} M documents; shuffled: {moved / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
