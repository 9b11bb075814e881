"""Documents → token shards: the tasks of the last pipeline. Tokens go through files, only their places through Beam."""

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece
from tokenizers import Tokenizer

from pipeline.errors import DigestError
from pipeline.files import TEMPORARY, atomic_path, file_sha256, sync_file, write_json
from pipeline.shards import shard_name, token_dtype, write_shard
from preprocess import kept, tokenizer
from preprocess.encode import encode
from preprocess.pack import pack
from preprocess.plan import Plan
from preprocess.split import shard_key, shard_keys, shard_of

EOS = tokenizer.SPECIAL_IDS["eos"]
COMPARED_CHARACTERS = 10_000  # of each document, by both tokenizers: the fast one is seven times slower
_SPACE = re.compile(r"\s")


class Place(NamedTuple):
    """Where a document's tokens and sentences lie in the files of its unit, and its rank within a shard (its hash)."""

    hash: str
    unit: int
    token: int
    token_end: int
    sentence: int
    sentence_end: int


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
    config = plan.config
    table = pq.read_table(plan.file("tokens", number, "parquet"))
    for cluster, *place in zip(*(column.to_pylist() for column in table.columns), strict=True):
        yield shard_key(cluster, config.seed, config.split, config.shards), (*place,)


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
    result = {"documents": len(places), "tokens": tokens, "sentences": sentences, "mismatches": int(mismatches)}
    write_json(plan.file("tokens", number, "json"), result)


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


def write_one_shard(group: tuple[int, Iterable[tuple[str, int, int, int, int, int]]], work: str) -> int:
    """Write one shard, its documents in the order of their hashes, packed for every length; returns its key."""
    plan = Plan.load(work)
    key = group[0]
    split, shard, shards = shard_of(key, plan.config.shards)
    tokens, index = _gather(sorted(Place(*place) for place in group[1]), plan)
    result: dict[str, Any] = {
        "documents": len(index["documents"]) - 1,
        "sentences": len(index["sentences"]) - 1,
        "tokens": len(tokens),
        "samples": {},
        "filled": {},
    }
    for length in plan.config.sequence_lengths:
        samples = pack(index["sentences"], index["documents"], length, plan.config.packing)
        ends = samples[1:].astype(np.int64) - np.isin(samples[1:], index["documents"])
        result["samples"][str(length)] = len(samples) - 1
        result["filled"][str(length)] = int((ends - samples[:-1].astype(np.int64) + 2).sum())
        index[f"samples.{length}"] = samples
    name = shard_name(split, shard, shards)
    aside = plan.corpus / f"{TEMPORARY}{os.getpid()}-{name}"
    aside.mkdir(exist_ok=True)
    for file in write_shard(aside, name, tokens, index):
        sync_file(aside / file)
        (aside / file).replace(plan.corpus / file)
    aside.rmdir()
    write_json(plan.work / "shards" / f"{key:05d}.json", result)
    return key


def shard_results(plan: Plan, split: str) -> Iterator[Path]:
    """The result files of a split's shards."""
    for key in shard_keys(split, plan.config.shards):
        yield plan.work / "shards" / f"{key:05d}.json"
