"""Documents → token ids, in files; where each document lies in them goes on to the shards."""

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece
from tokenizers import Tokenizer

from pipeline.errors import DigestError
from pipeline.files import atomic_path, file_sha256, write_json
from pipeline.shards import token_dtype
from preprocess import kept, tokenizer
from preprocess.encode import encode
from preprocess.plan import Plan
from preprocess.split import bin_of, split_of

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
        for row in kept.kept(plan, number, ["text", "hash"]):
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
