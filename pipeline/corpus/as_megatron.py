"""A corpus as Megatron's indexed datasets: for each split `SPLIT_text_LEVEL.bin` and `SPLIT_text_LEVEL.idx`.

The `.bin` file is all ids, one after the other. The `.idx` file, little-endian:

    "MMIDIDX" and two zero bytes   u64 version, 1   u8 code of the ids' type   u64 S   u64 D + 1
    int32 (S)      how many ids each sequence has
    int64 (S)      at which byte of the `.bin` file each begins
    int64 (D + 1)  the first sequence of each document, then S

Megatron's BERT and T5 want a sentence a sequence, and put their own `[CLS]` and `[SEP]` (its preprocessing with
`--split-sentences`); its GPT wants a document a sequence, with the end of the text in it (`--append-eod`).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.corpus.shards import Corpus, Shard, open_shards, token_dtype

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
CODES = {"<u2": 8, "<i4": 4}  # the format has no uint32
BLOCK = 2**22  # tokens that are copied at once


def write_megatron(corpus: Corpus, folder: Path, level: str, advance: Callable[[], None]) -> None:
    """Write a pair of files for each split into a folder; `advance` is called after each shard.

    Args:
        level: `sentence` or `document`: what a sequence is.
    """
    stored = "<u2" if token_dtype(corpus.vocab_size).itemsize == 2 else "<i4"
    for split in corpus.splits:
        shards = open_shards(corpus, split)
        name = f"{split}_text_{level}"
        with (folder / f"{name}.bin").open("wb") as file:
            for shard in shards:
                for ids in _ids(shard, level):
                    file.write(ids.astype(stored).tobytes())
                advance()
        _write_index(folder / f"{name}.idx", stored, shards, level)


def _ids(shard: Shard, level: str) -> Iterator[npt.NDArray[Any]]:
    """A shard's tokens, a block at a time; without the separators after documents where sequences are sentences."""
    separators = shard.index["documents"][1:] - np.uint64(1)
    for begin in range(0, len(shard.tokens), BLOCK):
        block = shard.tokens[begin : begin + BLOCK]
        if level == "document":
            yield block
        else:
            first, last = np.searchsorted(separators, np.array([begin, begin + BLOCK], np.uint64))
            yield np.delete(block, (separators[first:last] - np.uint64(begin)).astype(np.int64))


def _lengths(shard: Shard, level: str) -> npt.NDArray[np.int64]:
    """How many ids each sequence of a shard has."""
    documents, sentences = shard.index["documents"], shard.index["sentences"]
    if level == "document":
        return np.diff(documents).astype(np.int64)
    lengths = np.diff(sentences).astype(np.int64)
    lengths[np.searchsorted(sentences, documents[1:]) - 1] -= 1  # the separator, which a document's last sentence has
    return lengths


def _first_sequences(shard: Shard, level: str) -> npt.NDArray[np.int64]:
    """The number, in its shard, of the first sequence of each document."""
    documents = shard.index["documents"][:-1]
    if level == "document":
        return np.arange(len(documents))
    return np.searchsorted(shard.index["sentences"], documents)


def _write_index(path: Path, stored: str, shards: list[Shard], level: str) -> None:
    """Three passes over the shards' indexes: only one shard's is in memory at a time."""
    sequences = [len(shard.index[f"{level}s"]) - 1 for shard in shards]
    documents = sum(len(shard.index["documents"]) - 1 for shard in shards)
    with path.open("wb") as file:
        file.write(MAGIC + VERSION.to_bytes(8, "little") + CODES[stored].to_bytes(1, "little"))
        file.write(sum(sequences).to_bytes(8, "little") + (documents + 1).to_bytes(8, "little"))
        for shard in shards:
            file.write(_lengths(shard, level).astype("<i4").tobytes())
        written = 0
        for shard in shards:
            ends = written + np.cumsum(_lengths(shard, level)) * np.dtype(stored).itemsize
            file.write(np.append(written, ends)[:-1].astype("<i8").tobytes())
            written = int(ends[-1]) if len(ends) else written
        for shard, before in zip(shards, np.cumsum([0, *sequences]).tolist(), strict=False):
            file.write((before + _first_sequences(shard, level)).astype("<i8").tobytes())
        file.write(sum(sequences).to_bytes(8, "little"))
