"""What a corpus holds, for people: counts from its manifest, refused documents, any sample as ids, pieces and text."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tokenizers import Tokenizer

from pipeline.corpus.dead_letters import examples
from pipeline.corpus.pairs import Pairs
from pipeline.corpus.shards import PAIRS, Corpus, Split
from pipeline.errors import InputError
from pipeline.files import verify_file, verify_files
from pipeline.tables import print_table

TOKENIZER = "tokenizer/tokenizer.json"


def print_stats(corpus: Corpus, console: Console) -> None:
    """Splits, samples, sources and refused documents; no shard is read."""
    manifest = corpus.manifest
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    console.print(f"{corpus.folder}: {len(manifest['files'])} files, {size / 1e6:,.1f} MB; digest {corpus.digest}")
    console.print(f"packing: {corpus.packing}")
    splits = Table("split", "shards", "tokens a shard", "documents", "sentences", "tokens", "tokens a document")
    samples = Table("split", "tokens a sample", "samples", "filled")
    for split, counts in manifest["splits"].items():
        documents, tokens = counts["documents"], counts["tokens"]
        a_shard = counts.get("shard_tokens", {})
        least, most = (f"{a_shard[key]:,}" if a_shard else "" for key in ("min", "max"))
        figures = (f"{figure:,}" for figure in (documents, counts.get("sentences", 0), tokens))
        splits.add_row(
            split,
            f"{counts['shards']:,}",
            least if least == most else f"{least} to {most}",
            *figures,
            f"{tokens / max(documents, 1):,.0f}",
        )
        for length in map(str, corpus.sequence_lengths):
            filled = counts.get("fill_rate", {}).get(length)
            shown = "" if filled is None else f"{filled:.1%}"
            samples.add_row(split, length, f"{counts['samples'][length]:,}", shown)
    print_table(splits, console)
    print_table(samples, console)
    sources = Table("source", "read", "kept", "tokens", "duplicates", "near-duplicates", "skipped", "refused")
    for name, counts in manifest.get("counts", {}).get("sources", {}).items():
        left_out = [
            ", ".join(f"{n:,} {rule}" for rule, n in counts[key].items()) for key in ("skipped", "dead_letters")
        ]
        figures = (f"{counts.get(key, 0):,}" for key in ("read", "kept", "tokens", "duplicates", "near_duplicates"))
        sources.add_row(name, *figures, *left_out)
    if sources.row_count:
        print_table(sources, console)
    _print_refused(corpus, console)


def _print_refused(corpus: Corpus, console: Console) -> None:
    """How many documents each rule refused, and a few of them."""
    refused = Table("refused by", "documents", "such as")
    files = {name: entry for name, entry in corpus.manifest["files"].items() if name.startswith("dead-letters/")}
    verify_files(corpus.folder, files)
    drawn = examples(line for name in sorted(files) for line in (corpus.folder / name).read_bytes().splitlines())
    for rule, number in corpus.manifest.get("counts", {}).get("dead_letters", {}).items():
        refused.add_row(rule, f"{number:,}", Text("\n".join(drawn.get(rule, ()))))
    if refused.row_count:
        print_table(refused, console)


@dataclass(frozen=True)
class Part:
    """What a sample holds of one document: `document` counts within the shard; `first`: whether it begins here."""

    document: int
    first: bool
    ids: list[int]


def _check_split(corpus: Corpus, split: str) -> None:
    if split not in corpus.splits:
        raise InputError(f"split: found {split!r}; accepted: {', '.join(corpus.splits)}")


def _place(samples: Split | Pairs, sample: int) -> tuple[int, int]:
    """The shard of a sample, and its number in the shard."""
    if not 0 <= sample < len(samples):
        raise InputError(f"{samples.corpus.folder}: no sample {sample}; there are 0 to {len(samples) - 1}")
    number = int(np.searchsorted(samples.first, sample, side="right")) - 1
    return number, sample - int(samples.first[number])


def segments_of(corpus: Corpus, split: str, sequence_length: int, pair: int) -> tuple[str, list[Part], bool]:
    """The shard of a pair, its segments A and B, and whether B follows A.

    Raises:
        InputError: no such split, length or pair.
    """
    _check_split(corpus, split)
    pairs = Pairs(corpus, split, sequence_length)
    number, local = _place(pairs, pair)
    shard = pairs.shards[number]
    begin, end, b_begin, b_end = pairs.pairs[number][local].tolist()
    segments = [
        part
        for span in ((begin, end), (b_begin, b_end))
        for part in _parts(shard.tokens, shard.index["documents"], *span)
    ]
    follows = not pairs.read(np.array([pair])).next_sentence_label[0]
    return corpus.shard_names(split)[number], segments, follows


def parts_of(corpus: Corpus, split: str, sequence_length: int, sample: int) -> tuple[str, int, list[Part]]:
    """The shard of a sample, where it begins in the shard's tokens, and the documents that it holds.

    Raises:
        InputError: no such split, length or sample.
    """
    _check_split(corpus, split)
    samples = corpus.split(split, sequence_length)
    number, local = _place(samples, sample)
    shard = samples.shards[number]
    begin, end = samples.begins[number][local : local + 2].tolist()
    return corpus.shard_names(split)[number], begin, list(_parts(shard.tokens, shard.index["documents"], begin, end))


def _parts(tokens: npt.NDArray[np.generic], documents: npt.NDArray[np.uint64], begin: int, end: int) -> Iterator[Part]:
    document = int(np.searchsorted(documents, begin, side="right")) - 1
    while begin < end:
        until = min(end, int(documents[document + 1]))
        yield Part(document, begin == int(documents[document]), tokens[begin:until].tolist())
        begin, document = until, document + 1


def print_sample(corpus: Corpus, split: str, sequence_length: int, sample: int, console: Console) -> None:
    """The documents of one sample, or the two segments of a pair: where they lie, their text, ids and pieces.

    Raises:
        InputError: no such sample, or the corpus has no tokenizer. DigestError: its tokenizer was altered.
    """
    if TOKENIZER not in corpus.manifest["files"]:
        raise InputError(f"{corpus.folder}: has no {TOKENIZER}")
    which = f"{sample:,} of {split} for {sequence_length} tokens"
    if corpus.packing in PAIRS:
        shard, parts, follows = segments_of(corpus, split, sequence_length, sample)
        heading = f"pair {which}: {shard}; B {'follows A' if follows else 'is of another document'}"
    else:
        shard, begin, parts = parts_of(corpus, split, sequence_length, sample)
        end = begin + sum(len(part.ids) for part in parts) - 1
        heading = f"sample {which}: {shard}, tokens {begin} to {end}"
    path = verify_file(corpus.folder, TOKENIZER, corpus.manifest["files"][TOKENIZER])
    tokenizer = Tokenizer.from_file(str(path))
    console.print(heading)
    for part in parts:
        console.print(f"\ndocument {part.document}{'' if part.first else ', continued'}: {len(part.ids)} tokens")
        console.print("text:", tokenizer.decode(part.ids))
        console.print("ids:", *part.ids)
        console.print("pieces:", *(tokenizer.id_to_token(id) for id in part.ids))
