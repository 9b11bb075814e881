"""What a corpus holds, for people: counts from its manifest alone, and any sample as ids, pieces and text."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from pipeline.errors import InputError
from pipeline.files import verify_file
from pipeline.shards import Corpus

TOKENIZER = "tokenizer/tokenizer.json"


def print_stats(corpus: Corpus, console: Console) -> None:
    """Splits, samples and sources; no shard is read."""
    manifest = corpus.manifest
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    console.print(f"{corpus.folder}: {len(manifest['files'])} files, {size / 1e6:,.1f} MB; digest {corpus.digest}")
    splits = Table("split", "shards", "documents", "sentences", "tokens", "tokens a document")
    samples = Table("split", "tokens a sample", "samples", "filled")
    for split, counts in manifest["splits"].items():
        documents, tokens = counts["documents"], counts["tokens"]
        figures = (counts["shards"], documents, counts.get("sentences", 0), tokens)
        splits.add_row(split, *(f"{figure:,}" for figure in figures), f"{tokens / max(documents, 1):,.0f}")
        for length in map(str, corpus.sequence_lengths):
            filled = counts.get("fill_rate", {}).get(length)
            shown = "" if filled is None else f"{filled:.1%}"
            samples.add_row(split, length, f"{counts['samples'][length]:,}", shown)
    console.print(splits, samples)
    sources = Table("source", "read", "kept", "duplicates", "near-duplicates", "skipped", "refused")
    for name, counts in manifest.get("counts", {}).get("sources", {}).items():
        left_out = [
            ", ".join(f"{n:,} {rule}" for rule, n in counts[key].items()) for key in ("skipped", "dead_letters")
        ]
        sources.add_row(
            name, *(f"{counts[key]:,}" for key in ("read", "kept", "duplicates", "near_duplicates")), *left_out
        )
    if sources.row_count:
        console.print(sources)


@dataclass(frozen=True)
class Part:
    """What a sample holds of one document: `document` counts within the shard; `first`: whether it begins here."""

    document: int
    first: bool
    ids: list[int]


def parts_of(corpus: Corpus, split: str, sequence_length: int, sample: int) -> tuple[str, int, list[Part]]:
    """The shard of a sample, where it begins in the shard's tokens, and the documents that it holds.

    Raises:
        InputError: no such split, length or sample.
    """
    if split not in corpus.splits:
        raise InputError(f"split: found {split!r}; accepted: {', '.join(corpus.splits)}")
    samples = corpus.split(split, sequence_length)
    if not 0 <= sample < len(samples):
        raise InputError(f"{corpus.folder}: no sample {sample} in {split}; it has 0 to {len(samples) - 1}")
    number = int(np.searchsorted(samples.first, sample, side="right")) - 1
    shard, local = samples.shards[number], sample - int(samples.first[number])
    begin, end = (int(offset) for offset in samples.begins[number][local : local + 2])
    return corpus.shard_names(split)[number], begin, list(_parts(shard.tokens, shard.index["documents"], begin, end))


def _parts(tokens: npt.NDArray[np.generic], documents: npt.NDArray[np.uint64], begin: int, end: int) -> Iterator[Part]:
    document = int(np.searchsorted(documents, begin, side="right")) - 1
    while begin < end:
        until = min(end, int(documents[document + 1]))
        yield Part(document, begin == int(documents[document]), tokens[begin:until].tolist())
        begin, document = until, document + 1


def print_sample(corpus: Corpus, split: str, sequence_length: int, sample: int, console: Console) -> None:
    """The documents of one sample: where they lie, their text, ids and pieces.

    Raises:
        InputError: no such sample, or the corpus has no tokenizer. DigestError: its tokenizer was altered.
    """
    if TOKENIZER not in corpus.manifest["files"]:
        raise InputError(f"{corpus.folder}: has no {TOKENIZER}")
    shard, begin, parts = parts_of(corpus, split, sequence_length, sample)
    path = verify_file(corpus.folder, TOKENIZER, corpus.manifest["files"][TOKENIZER])
    tokenizer = Tokenizer.from_file(str(path))
    length = sum(len(part.ids) for part in parts)
    console.print(
        f"sample {sample:,} of {split} for {sequence_length} tokens: {shard}, tokens {begin} to {begin + length - 1}"
    )
    for part in parts:
        console.print(f"\ndocument {part.document}{'' if part.first else ', continued'}: {len(part.ids)} tokens")
        console.print("text:", tokenizer.decode(part.ids))
        console.print("ids:", *part.ids)
        console.print("pieces:", *(tokenizer.id_to_token(id) for id in part.ids))
