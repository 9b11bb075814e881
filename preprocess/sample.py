"""The sentences that the tokenizer is trained on: a deterministic sample of the training split, of bounded size.

A line (a paragraph) is drawn by the hash of its document, its position and the seed; the draws below a threshold are
kept, and of those the smallest up to the bound, sentence by sentence. So the sample is the same for any order of the
units, is never shuffled, and only the lines that are drawn are cut into sentences.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.files import atomic_path
from preprocess import kept, tokenizer
from preprocess.config import TrainedConfig
from preprocess.plan import Plan
from preprocess.sentences import sentences
from preprocess.split import split_of
from preprocess.spm import MAX_SENTENCE_BYTES

SCHEMA = pa.schema([("draw", pa.uint64()), ("sentences", pa.list_(pa.string()))])

Drawn = tuple[int, list[str]]  # a line's draw and its sentences


def _draws(seed: int, hash: str, count: int) -> Iterator[int]:
    """One 64-bit draw for each of a document's `count` lines."""
    key = hashlib.sha256(f"sample:{seed}:{hash}".encode()).digest()
    for position in range(count):
        digest = hashlib.blake2b(position.to_bytes(8, "big"), digest_size=8, key=key).digest()
        yield int.from_bytes(digest, "big")


def threshold(config: TrainedConfig, characters: int) -> int:
    """The draw under which a line of a corpus of so many characters is kept.

    A little more than the bound is, so that cutting at the bound leaves it full.
    """
    return min(2**64, int(2**64 * 1.05 * config.sample_characters / characters))


def write_sample(number: int, work: str, below: int) -> tuple[int, int]:
    """Write the sentences of one unit whose lines' draws are below a threshold; returns (0, unit)."""
    plan = Plan.load(work)
    rows = [
        {"draw": draw, "sentences": found}
        for row in kept.kept(plan, number, ["text", "hash"])
        if split_of(row["cluster"], plan.config.seed, plan.config.split) == "train"
        for draw, found in draw_sentences(row["text"], row["hash"], plan.config.seed, below)
    ]
    with plan.reporting("tokenizer", number), atomic_path(plan.file("tokenizer", number, "parquet")) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary, compression="zstd")
    return 0, number


def draw_sentences(text: str, hash: str, seed: int, below: int) -> Iterator[Drawn]:
    """The lines of a document whose draw is below a threshold."""
    lines = text.split("\n")
    for draw, line in zip(_draws(seed, hash, len(lines)), lines, strict=True):
        if line and draw < below:
            yield draw, sentences(line)


def gather(paths: Iterable[Path], bound: int) -> list[str]:
    """The drawn sentences of all units, see `choose`.

    Raises:
        InputError: there is none, so no tokenizer can be trained.
    """
    rows: list[Drawn] = []
    for path in paths:
        table = pq.read_table(path)
        rows += zip(table["draw"].to_pylist(), table["sentences"].to_pylist(), strict=True)
    chosen = choose(rows, bound)
    if not chosen:
        drawn = sum(len(found) for _, found in rows)
        raise InputError(
            f"tokenizer: no sentence to train on: {drawn} were drawn from the train split, and none has at most"
            f" {MAX_SENTENCE_BYTES} bytes, or the first is over tokenizer.sample_characters={bound}; give more text,"
            " or text with line ends or punctuation"
        )
    return chosen


def choose(drawn: Iterable[Drawn], bound: int) -> list[str]:
    """Sentences in the order of their lines' draws, at most `bound` characters of them."""
    gathered, characters = [], 0
    for sentence in chain.from_iterable(found for _, found in sorted(drawn)):
        if len(sentence.encode()) > MAX_SENTENCE_BYTES:
            continue
        characters += len(sentence)
        if characters > bound:
            break
        gathered.append(sentence)
    return gathered


def train_tokenizer(group: tuple[int, Iterable[int]], work: str) -> int:
    """Train on the samples of all units and write the tokenizer into the corpus; returns the number of units."""
    plan = Plan.load(work)
    units = sorted(set(group[1]))
    config, settings = plan.config, plan.config.tokenizer
    assert settings.type != "loaded"
    with plan.reporting("training", 0):
        paths = [plan.file("tokenizer", unit, "parquet") for unit in units]
        chosen = gather(paths, settings.sample_characters)
        trained = tokenizer.train(chosen, settings, config.clean.unicode_form)
        tokenizer.write(plan.folders["tokenizer"], trained, config.sequence_lengths[-1])
    return len(units)
