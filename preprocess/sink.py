"""Tokens → shards: the tasks of the last pipeline. Tokens are read from files, only their places pass through Beam."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.corpus.shards import shard_name, token_dtype, write_shard
from pipeline.files import beside, read_json, sync_file, write_json
from preprocess.config import CorpusConfig
from preprocess.pack import pack
from preprocess.pairs import pack_pairs
from preprocess.plan import Plan
from preprocess.split import BINS, cut, rank_of, shard_key, shard_keys, shard_of, split_of
from preprocess.tokens import Place


def cut_shards(plan: Plan) -> None:
    """Write at which bins of ranks shards begin (`preprocess.split.cut`) for the tasks that need it."""
    tokens = {split: np.zeros(BINS, np.int64) for split in plan.config.split.names}
    for unit in plan.units:
        table = pq.read_table(plan.file("tokens", unit.number, "parquet", "bins"))
        for split, totals in tokens.items():
            of_split = table.filter(pc.equal(table["split"], split))
            totals[of_split["bin"].to_numpy()] += of_split["tokens"].to_numpy()
    shards = plan.config.shards
    cuts = {split: cut(totals, len(shard_keys(split, shards))) for split, totals in tokens.items()}
    write_json(plan.work / "cuts.json", cuts)


def places(number: int, work: str) -> Iterator[tuple[int, tuple[str, int, int, int, int, int]]]:
    """(shard key, place) for each document of a unit."""
    plan = Plan.load(work)
    config, cuts = plan.config, read_json(plan.work / "cuts.json")
    table = pq.read_table(plan.file("tokens", number, "parquet"))
    for cluster, hash, *place in zip(*(column.to_pylist() for column in table.columns), strict=True):
        split = split_of(cluster, config.seed, config.split)
        yield shard_key(split, hash, config.seed, config.shards, cuts[split]), (hash, *place)


def _gather(places: list[Place], plan: Plan) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[np.uint64]]]:
    """The tokens of a shard, document after document, and where documents and sentences begin in them."""
    dtype = token_dtype(plan.vocabulary.size)
    offsets = np.cumsum([0, *(place.token_end - place.token for place in places)]).astype(np.uint64)
    firsts = np.cumsum([0, *(place.sentence_end - place.sentence for place in places)])
    tokens, sentences = np.empty(int(offsets[-1]), dtype), np.empty(int(firsts[-1]) + 1, np.uint64)
    sentences[-1] = offsets[-1]
    # unit by unit, since every mapped file is an open one, and a corpus may have more units than a process may open
    by_unit = sorted(range(len(places)), key=lambda at: places[at].unit)
    for unit, found in groupby(by_unit, key=lambda at: places[at].unit):
        unit_tokens = np.memmap(plan.file("tokens", unit, "tokens"), dtype, "r")
        unit_sentences = np.memmap(plan.file("tokens", unit, "sentences"), "<u8", "r")
        for at in found:
            place, begin = places[at], offsets[at]
            tokens[begin : offsets[at + 1]] = unit_tokens[place.token : place.token_end]
            begins = unit_sentences[place.sentence : place.sentence_end]
            sentences[firsts[at] : firsts[at + 1]] = begins - np.uint64(place.token) + begin
    return tokens, {"documents": offsets, "sentences": sentences}


def _packed(
    index: dict[str, npt.NDArray[np.uint64]], length: int, config: CorpusConfig, shard: str
) -> tuple[str, npt.NDArray[np.uint64], int, int]:
    """(name, array) of a shard's samples for one length, their number, and how many positions are no `<pad>`."""
    if config.packing == "segment-pair":
        pairs = pack_pairs(index["sentences"], index["documents"], length, config.seed, shard)
        filled = (pairs[:, 1::2] - pairs[:, ::2]).sum() + 3 * len(pairs)
        return f"pairs.{length}", pairs, len(pairs), int(filled)
    samples = pack(index["sentences"], index["documents"], length, config.packing)
    ends = samples[1:].astype(np.int64) - np.isin(samples[1:], index["documents"])
    filled = (ends - samples[:-1].astype(np.int64) + 2).sum()
    return f"samples.{length}", samples, len(samples) - 1, int(filled)


def _histogram(lengths: npt.NDArray[np.uint64]) -> dict[str, int]:
    """How many documents have k to 2k − 1 tokens, for the powers of two k that occur."""
    exponents, documents = np.unique(np.frexp(lengths.astype(np.float64))[1] - 1, return_counts=True)
    return {str(2**exponent): count for exponent, count in zip(exponents.tolist(), documents.tolist(), strict=True)}


def write_one_shard(group: tuple[int, Iterable[tuple[str, int, int, int, int, int]]], work: str) -> int:
    """Write one shard, its documents in the order of their ranks, packed for every length; returns its key."""
    plan = Plan.load(work)
    with plan.reporting("shards", group[0]):
        _write_one_shard(group[0], [Place(*place) for place in group[1]], plan)
    return group[0]


def _write_one_shard(key: int, places: list[Place], plan: Plan) -> None:
    split, shard, shards = shard_of(key, plan.config.shards)
    places.sort(key=lambda place: (rank_of(place.hash, plan.config.seed), place))
    tokens, index = _gather(places, plan)
    result: dict[str, Any] = {
        "documents": len(index["documents"]) - 1,
        "sentences": len(index["sentences"]) - 1,
        "tokens": len(tokens),
        "lengths": _histogram(np.diff(index["documents"])),
        "samples": {},
        "filled": {},
    }
    name = shard_name(split, shard, shards)
    for length in plan.config.sequence_lengths:
        array, samples, count, filled = _packed(index, length, plan.config, name)
        result["samples"][str(length)], result["filled"][str(length)] = count, filled
        index[array] = samples
    aside = beside(plan.corpus / name)
    aside.mkdir()
    for file in write_shard(aside, name, tokens, index):
        sync_file(aside / file)
        (aside / file).replace(plan.corpus / file)
    aside.rmdir()
    write_json(plan.work / "shards" / f"{key:05d}.json", result)


def shard_results(plan: Plan, split: str) -> Iterator[Path]:
    """The result files of a split's shards."""
    for key in shard_keys(split, plan.config.shards):
        yield plan.work / "shards" / f"{key:05d}.json"
