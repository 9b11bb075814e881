"""A corpus as Parquet files that Hugging Face `datasets` loads: `data/{train,validation,test}-00000-of-00004.parquet`.

One file for each shard. A row is a sample, as `kilobatch pretrain` reads it but not padded:

    input_ids (T)                                          <s> … </s>
    input_ids (T)  token_type_ids (T)  next_sentence_label  in a corpus of segment pairs

or a document, `<s> … </s>`, as the tokenizer gives it: what `datasets.map` makes in Hugging Face's run_mlm before it
groups texts.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.pairs import Pairs
from pipeline.corpus.shards import PAIRS, Corpus, Shard, Split, open_shards, shard_name

SPLITS = {"train": "train", "valid": "validation", "test": "test"}  # by these names `datasets` finds them
TOGETHER = 2**20  # tokens of a row group: what a reader has in memory
_IDS, _TYPES = pa.list_(pa.int32()), pa.list_(pa.int8())
ONE_SEGMENT = pa.schema([("input_ids", _IDS)])
TWO_SEGMENTS = pa.schema([("input_ids", _IDS), ("token_type_ids", _TYPES), ("next_sentence_label", pa.int8())])


def write_parquet(corpus: Corpus, folder: Path, level: str, sequence_length: int, advance: Callable[[], None]) -> None:
    """Write a file for each shard into `folder/data`; `advance` is called after each.

    Args:
        level: `sample` or `document`: what a row is.
        sequence_length: tokens a sample; of no matter for documents.
    """
    (folder / "data").mkdir()
    for split in corpus.splits:
        shards = corpus.manifest["splits"][split]["shards"]
        for number, tables in enumerate(_shards(corpus, split, level, sequence_length)):
            path = folder / "data" / f"{shard_name(SPLITS[split], number, shards)}.parquet"
            schema = TWO_SEGMENTS if level == "sample" and corpus.packing in PAIRS else ONE_SEGMENT
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table)
            advance()


def _shards(corpus: Corpus, split: str, level: str, sequence_length: int) -> Iterator[Iterator[pa.Table]]:
    """For each shard of a split its rows, a row group at a time."""
    if level == "document":
        return (_documents(shard, corpus.special_ids["bos"]) for shard in open_shards(corpus, split))
    paired = corpus.packing in PAIRS
    samples = Pairs(corpus, split, sequence_length) if paired else corpus.split(split, sequence_length)
    return (_samples(samples, range(*bounds)) for bounds in pairwise(samples.first.tolist()))


def _samples(samples: Split | Pairs, numbers: range) -> Iterator[pa.Table]:
    step = max(1, TOGETHER // samples.sequence_length)
    for begin in range(numbers.start, numbers.stop, step):
        some = np.arange(begin, min(begin + step, numbers.stop))
        if isinstance(samples, Split):
            ids = samples.read(some)
            yield pa.table([_lists(ids, ids != samples.corpus.special_ids["pad"])], schema=ONE_SEGMENT)
        else:
            ids, types, labels = samples.read(some)
            there = ids != samples.corpus.special_ids["pad"]
            columns = [_lists(ids, there), _lists(types.astype(np.int8), there), labels.astype(np.int8)]
            yield pa.table(columns, schema=TWO_SEGMENTS)


def _lists(values: npt.NDArray[np.integer], there: npt.NDArray[np.bool_]) -> pa.Array:
    """The rows of a matrix (B, T) without their padding."""
    offsets = np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values[there])


def _documents(shard: Shard, bos: int) -> Iterator[pa.Table]:
    bounds, begin = shard.index["documents"].astype(np.int64), 0
    while begin < len(bounds) - 1:
        end = max(begin + 1, int(np.searchsorted(bounds, bounds[begin] + TOGETHER, side="right")) - 1)
        offsets = bounds[begin : end + 1] - bounds[begin]
        tokens = shard.tokens[bounds[begin] : bounds[end]].astype(np.int32)
        ids = np.insert(tokens, offsets[:-1], bos)  # the separator at a document's end is its `</s>`
        lists = pa.ListArray.from_arrays((offsets + np.arange(len(offsets))).astype(np.int32), ids)
        yield pa.table([lists], schema=ONE_SEGMENT)
        begin = end
