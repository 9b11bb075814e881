"""Do the corpus and its exported tokenizer agree, and how fast is each: raw text in, whole documents, every type.

    python -m benchmarks.encoding [--characters 2000000] [FILE…]

Trains a tokenizer of each type on a sample of the files (plain text or `<doc>`; without any, the demo's plays), encodes
every document as preprocessing does, cleaned and word by word, and as `AutoTokenizer` does, raw and whole, and counts
the documents whose ids differ. Wrong encodings are not repaired here: the exported tokenizer does not.
"""

import argparse
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from benchmarks.preprocess import texts
from launch import demo_text
from preprocess import tokenizer
from preprocess.clean import clean
from preprocess.config import CleanConfig, TokenizerConfig
from preprocess.dedup import content_hash
from preprocess.encode import Encoder
from preprocess.sample import choose, draw_sentences

TYPES = ("sentencepiece-unigram", "sentencepiece-bpe", "byte-bpe")
PROCESSES = 2
AT_ONCE = 100  # documents
CLEAN = CleanConfig(fix_encoding=False)


class Compared(NamedTuple):
    documents: int
    differing: int
    characters: int
    ours: float  # seconds
    whole: float


@lru_cache(maxsize=1)
def _both(json: str) -> tuple[Encoder, Tokenizer]:
    return Encoder(Tokenizer.from_str(json)), Tokenizer.from_str(json)


def compare(documents: list[str], json: str) -> Compared:
    """Documents of which something is left when they are cleaned."""
    encoder, fast = _both(json)
    pairs = [(raw, clean(raw, "plain", CLEAN).text) for raw in documents]
    pairs = [(raw, text) for raw, text in pairs if text]
    begin = time.process_time()
    ours = [encoded.ids.tolist() for encoded in encoder.encode_all(text for _, text in pairs)]
    middle = time.process_time()
    whole = [fast.encode(raw, add_special_tokens=False).ids for raw, _ in pairs]
    end = time.process_time()
    differing = sum(mine != theirs for mine, theirs in zip(ours, whole, strict=True))
    return Compared(len(pairs), differing, sum(len(text) for _, text in pairs), middle - begin, end - middle)


def batches(paths: list[Path]) -> Iterator[list[str]]:
    documents = texts.documents(paths)
    while batch := [*islice(documents, AT_ONCE)]:
        yield batch


def sample(paths: list[Path], characters: int) -> Iterator[tuple[int, list[str]]]:
    size = sum(path.stat().st_size for path in paths)
    below = min(2**64, 2**64 * 2 * characters // size)
    for raw in texts.documents(paths):
        yield from draw_sentences(clean(raw, "plain", CLEAN).text, content_hash(raw), 0, below)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--characters", type=int, default=2_000_000, help="that a tokenizer is trained on")
    arguments = parser.parse_args()
    demo_text.fetch(Path("demo/raw"))
    paths = arguments.files or sorted(Path("demo/raw").rglob("*.md"))
    sentences = choose(sample(paths, arguments.characters), arguments.characters)
    table = Table(
        "tokenizer", "documents", "that differ", "million characters", "ours, a core", "whole documents", "ratio"
    )
    for kind in TYPES:
        values: dict[str, Any] = {"type": kind, "vocab_size": 8192}
        made = tokenizer.train(sentences, TypeAdapter(TokenizerConfig).validate_python(values), "NFC")
        with get_context("spawn").Pool(PROCESSES) as pool:
            job = partial(compare, json=made.tokenizer.to_str())
            documents, differing, size, ours, whole = map(
                sum, zip(*pool.imap_unordered(job, batches(paths)), strict=True)
            )
        rates = [size / 1e6 / ours, size / 1e6 / whole]
        shown = [f"{rate:.1f} M/s" for rate in rates]
        table.add_row(
            kind, f"{documents:,}", f"{differing:,}", f"{size / 1e6:.1f}", *shown, f"{rates[0] / rates[1]:.1f} ×"
        )
    Console(highlight=False, width=120).print(table)


if __name__ == "__main__":
    main()
