"""What a plain script of two processes does with the same pure functions: no Beam, no stages, no manifest, no retry.

    python -m benchmarks.preprocess.plain CONFIG

It writes the shards that `kilobatch preprocess CONFIG` writes, byte for byte (exact duplicates only), and holds
everything in memory.
"""

import sys
from collections import Counter
from functools import lru_cache, partial
from itertools import chain
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from pipeline.configfile import load_config
from pipeline.corpus.shards import shard_name, token_dtype, write_shard
from preprocess import sample, sources, tokenizer
from preprocess.config import CorpusConfig
from preprocess.dedup import content_hash
from preprocess.documents import cleaned
from preprocess.encode import Encoded, Encoder
from preprocess.pack import pack
from preprocess.records import Document, Unit
from preprocess.split import BINS, bin_of, cut, rank_of, shard_key, shard_keys, shard_of, split_of
from preprocess.vocabulary import SPECIAL_IDS

PROCESSES = 2


class Text(NamedTuple):
    hash: str
    id: str
    text: str


def read(unit: Unit, config: CorpusConfig) -> list[Text]:
    items = (cleaned(item, config, Counter()) for item in sources.read(unit))
    return [Text(content_hash(item.text), item.id, item.text) for item in items if isinstance(item, Document)]


def distinct(units: list[list[Text]]) -> list[list[Text]]:
    """The units without the texts that an equal one of smaller id replaces."""
    first: dict[str, str] = {}
    for text in (text for unit in units for text in unit):
        first[text.hash] = min(text.id, first.get(text.hash, text.id))
    return [[text for text in unit if first[text.hash] == text.id] for unit in units]


def draw(unit: list[Text], config: CorpusConfig, below: int) -> list[sample.Drawn]:
    of_train = (text for text in unit if split_of(text.hash, config.seed, config.split) == "train")
    return [drawn for text in of_train for drawn in sample.draw_sentences(text.text, text.hash, config.seed, below)]


def encode_all(unit: list[Text], json: str) -> list[Encoded]:
    return [*_encoder(json).encode_all(text.text for text in unit)]


@lru_cache(maxsize=1)
def _encoder(json: str) -> Encoder:
    return Encoder(Tokenizer.from_str(json))


def write(part: tuple[int, list[Encoded]], config: CorpusConfig) -> None:
    """Write one shard from its documents in their order."""
    dtype = token_dtype(config.tokenizer.vocab_size)
    tokens = [np.append(document.ids, SPECIAL_IDS["eos"]).astype(dtype) for document in part[1]]
    offsets = np.cumsum([0, *map(len, tokens)]).astype(np.uint64)
    begins = [document.sentences + offset for document, offset in zip(part[1], offsets, strict=False)]
    index = {"documents": offsets, "sentences": np.concatenate([*begins, offsets[-1:]])}
    for length in config.sequence_lengths:
        index[f"samples.{length}"] = pack(index["sentences"], offsets, length, "full-sentences")
    split, shard, shards = shard_of(part[0], config.shards)
    joined: npt.NDArray[np.uint16] = np.concatenate([np.zeros(0, dtype), *tokens])
    write_shard(config.output, shard_name(split, shard, shards), joined, index)


def divide(hashes: list[str], encoded: list[Encoded], config: CorpusConfig) -> list[tuple[int, list[Encoded]]]:
    """(key, documents in their order) of each shard."""
    seed = config.seed
    splits = [split_of(hash, seed, config.split) for hash in hashes]
    counts = {split: np.zeros(BINS, np.int64) for split in config.split.names}
    for hash, split, document in zip(hashes, splits, encoded, strict=True):
        counts[split][bin_of(hash, seed)] += len(document.ids) + 1
    keys = {split: shard_keys(split, config.shards) for split in counts}
    cuts = {split: cut(count, len(keys[split])) for split, count in counts.items()}
    parts: dict[int, list[Encoded]] = {key: [] for split in keys for key in keys[split]}
    for at in sorted(range(len(hashes)), key=lambda at: (rank_of(hashes[at], seed), hashes[at])):
        parts[shard_key(splits[at], hashes[at], seed, config.shards, cuts[splits[at]])].append(encoded[at])
    return list(parts.items())


def main(path: str) -> None:
    config = load_config(CorpusConfig, Path(path))
    assert config.tokenizer.type != "loaded"
    config.output.mkdir()
    with Pool(PROCESSES) as pool:
        units = distinct(pool.map(partial(read, config=config), sources.list_units(config.sources), chunksize=1))
        texts = [text for unit in units for text in unit]
        below = sample.threshold(config.tokenizer, sum(len(text.text) for text in texts))
        drawn = pool.map(partial(draw, config=config, below=below), units, chunksize=1)
        chosen = sample.choose(chain.from_iterable(drawn), config.tokenizer.sample_characters)
        trained = tokenizer.train(chosen, config.tokenizer, config.clean.unicode_form).tokenizer
        encoded = pool.map(partial(encode_all, json=trained.to_str()), units, chunksize=1)
        documents = [document for unit in encoded for document in unit]
        pool.map(partial(write, config=config), divide([text.hash for text in texts], documents, config), chunksize=1)


if __name__ == "__main__":
    main(sys.argv[1])
