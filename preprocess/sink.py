"""Documents → token shards: the tasks of the last pipeline. Tokens go through files, only their places through Beam."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sentencepiece
from tokenizers import Tokenizer

from pipeline.errors import DigestError
from pipeline.files import TEMPORARY, atomic_path, file_sha256, read_json, sync_file, write_json
from pipeline.shards import shard_name, token_dtype, write_shard
from preprocess import kept, tokenizer
from preprocess.config import CorpusConfig
from preprocess.encode import encode
from preprocess.pack import pack
from preprocess.pairs import pack_pairs
from preprocess.plan import Plan
from preprocess.split import BINS, bin_of, cut, rank_of, shard_key, shard_keys, shard_of, split_of

EOS = tokenizer.SPECIAL_IDS["eos"]
COMPARED_CHARACTERS = 10_000  # of each document, by both tokenizers: the fast one is seven times slower
_SPACE = re.compile(r"\s")


class Place(NamedTuple):
    """Where a document's tokens and sentences lie in the files of its unit; its hash ranks it within a shard."""

    hash: str
    unit: int
    token: int
    token_end: int
    sentence: int
    sentence_end: int


TOKENS_IN_BINS = pa.schema([("split", pa.string()), ("bin", pa.int64()), ("tokens", pa.int64())])
PLACES = pa.schema(
    [("cluster", pa.string()), ("hash", pa.string()), *((name, pa.int64()) for name in Place._fields[1:])]
)


@lru_cache(maxsize=1)
def _tokenizers(folder: Path, digests: tuple[str, str]) -> tuple[sentencepiece.SentencePieceProcessor, Tokenizer]:
    """Both forms of the tokenizer, once a process, after their digests have been compared with the driver's."""
    for name, digest in zip(("spm.model", "tokenizer.json"), digests, strict=True):
        found = file_sha256(folder / name)
        if found != digest:
            raise DigestError(f"{folder / name}: SHA-256 {found}, expected {digest}")
    return tokenizer.load((folder / "spm.model").read_bytes()), Tokenizer.from_file(str(folder / "tokenizer.json"))


def _beginning(text: str) -> str:
    """A text's first words, so many that they are compared by both tokenizers."""
    space = _SPACE.search(text, COMPARED_CHARACTERS)
    return text[: space.start()] if space else text


def write_tokens(number: int, work: str, digests: tuple[str, str]) -> int:
    """Encode one unit's documents into its token files, and write where each lies; returns the unit."""
    plan = Plan.load(work)
    with plan.reporting("tokens", number):
        _write_tokens(number, plan, digests)
    return number


def places(number: int, work: str) -> Iterator[tuple[int, tuple[str, int, int, int, int, int]]]:
    """(shard key, place) for each document of a unit."""
    plan = Plan.load(work)
    config, cuts = plan.config, read_json(plan.work / "cuts.json")
    table = pq.read_table(plan.file("tokens", number, "parquet"))
    for cluster, hash, *place in zip(*(column.to_pylist() for column in table.columns), strict=True):
        split = split_of(cluster, config.seed, config.split)
        yield shard_key(split, hash, config.seed, config.shards, cuts[split]), (hash, *place)


def _write_tokens(number: int, plan: Plan, digests: tuple[str, str]) -> None:
    processor, fast = _tokenizers(plan.tokenizer, digests)
    dtype = token_dtype(plan.config.tokenizer.vocab_size)
    places: list[tuple[Any, ...]] = []
    tokens, sentences, mismatches = 0, 0, 0
    with (
        atomic_path(plan.file("tokens", number, "tokens")) as token_path,
        atomic_path(plan.file("tokens", number, "sentences")) as sentence_path,
        token_path.open("wb") as token_file,
        sentence_path.open("wb") as sentence_file,
    ):
        for row in kept.kept(plan, number):
            ids, begins = encode(row["text"], processor)
            compared = fast.encode(_beginning(row["text"]), add_special_tokens=False).ids
            mismatches += compared != ids[: len(compared)].tolist()
            token_file.write(np.append(ids, EOS).astype(dtype).tobytes())
            sentence_file.write((begins + np.uint64(tokens)).astype("<u8").tobytes())
            place = Place(row["hash"], number, tokens, tokens + len(ids) + 1, sentences, sentences + len(begins))
            places.append((row["cluster"], *place))
            tokens, sentences = place.token_end, place.sentence_end
    with atomic_path(plan.file("tokens", number, "parquet")) as temporary:
        columns = [list(column) for column in zip(*places, strict=True)] or [[] for _ in PLACES]
        pq.write_table(pa.table(columns, schema=PLACES), temporary)
    _write_bins(number, plan, places)
    result = {"documents": len(places), "tokens": tokens, "sentences": sentences, "mismatches": int(mismatches)}
    write_json(plan.file("tokens", number, "json"), result)


def _write_bins(number: int, plan: Plan, places: list[tuple[Any, ...]]) -> None:
    """Write how many tokens of the unit lie in which bin of ranks, by split: shards are cut by it."""
    seed, tokens = plan.config.seed, Counter[tuple[str, int]]()
    for cluster, *fields in places:
        place = Place(*fields)
        tokens[split_of(cluster, seed, plan.config.split), bin_of(place.hash, seed)] += place.token_end - place.token
    rows = [{"split": split, "bin": bin, "tokens": count} for (split, bin), count in sorted(tokens.items())]
    with atomic_path(plan.file("tokens", number, "parquet", "bins")) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, TOKENS_IN_BINS), temporary)


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


def _gather(places: list[Place], plan: Plan) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[np.uint64]]]:
    """The tokens of a shard, document after document, and where documents and sentences begin in them."""
    dtype = token_dtype(plan.config.tokenizer.vocab_size)
    units = {place.unit for place in places}
    tokens = {unit: np.memmap(plan.file("tokens", unit, "tokens"), dtype, "r") for unit in units}
    sentences = {unit: np.memmap(plan.file("tokens", unit, "sentences"), "<u8", "r") for unit in units}
    offsets = np.cumsum([0, *(place.token_end - place.token for place in places)]).astype(np.uint64)
    parts = [tokens[place.unit][place.token : place.token_end] for place in places]
    begins = [
        sentences[place.unit][place.sentence : place.sentence_end] - np.uint64(place.token) + offset
        for place, offset in zip(places, offsets, strict=False)
    ]
    return (
        np.concatenate([np.zeros(0, dtype), *parts]),
        {"documents": offsets, "sentences": np.concatenate([*begins, offsets[-1:]])},
    )


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
        "samples": {},
        "filled": {},
    }
    name = shard_name(split, shard, shards)
    for length in plan.config.sequence_lengths:
        array, samples, count, filled = _packed(index, length, plan.config, name)
        result["samples"][str(length)], result["filled"][str(length)] = count, filled
        index[array] = samples
    aside = plan.corpus / f"{TEMPORARY}{os.getpid()}-{name}"
    aside.mkdir(exist_ok=True)
    for file in write_shard(aside, name, tokens, index):
        sync_file(aside / file)
        (aside / file).replace(plan.corpus / file)
    aside.rmdir()
    write_json(plan.work / "shards" / f"{key:05d}.json", result)


def shard_results(plan: Plan, split: str) -> Iterator[Path]:
    """The result files of a split's shards."""
    for key in shard_keys(split, plan.config.shards):
        yield plan.work / "shards" / f"{key:05d}.json"
