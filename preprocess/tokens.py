"""Documents → token ids, in files; where each document lies in them goes on to the shards."""

from collections import Counter
from functools import lru_cache
from itertools import tee
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from pipeline.corpus.shards import token_dtype
from pipeline.errors import DigestError
from pipeline.files import atomic_path, file_sha256, write_json
from preprocess import kept
from preprocess.encode import Encoder
from preprocess.plan import Plan
from preprocess.split import bin_of, split_of
from preprocess.tokenizer import is_ours
from preprocess.vocabulary import byte_ids

COUNTED = ("characters", "words", "byte_tokens")  # beside documents, tokens and sentences
COMPARED = 64  # of so many documents one is encoded as a whole too


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
def _encoder(path: Path, digest: str, unicode_form: str) -> tuple[Encoder, Tokenizer, npt.NDArray[np.bool_]]:
    """The encoder, the tokenizer as it is exported, and which of its ids are bytes.

    Once a process, after its digest was compared with the driver's.
    """
    found = file_sha256(path)
    if found != digest:
        raise DigestError(f"{path}: SHA-256 {found}, expected {digest}")
    exported = Tokenizer.from_file(str(path))
    given = not is_ours(exported, unicode_form)
    return Encoder(Tokenizer.from_file(str(path)), given), exported, byte_ids(exported)


def _differs(text: str, hash: str, ids: npt.NDArray[np.uint32], encoder: Encoder, exported: Tokenizer) -> bool:
    """Does `tokenizer.json` give other ids for a text? Where it spells a special token it does; of the other documents
    some are drawn by their hash, to see that it does not."""
    if any(token in text for token in encoder.special_tokens):
        return True
    drawn = int(hash[-8:], 16) % COMPARED == 0
    return drawn and exported.encode_batch_fast([text], add_special_tokens=False)[0].ids != ids.tolist()


def count_words(text: str) -> int:
    """The number of words between white space in a normalised text."""
    return 1 + text.count(" ") + text.count("\n") - text.count("\n\n")


def write_tokens(number: int, work: str, digest: str) -> int:
    """Encode one unit's documents into its token files, and write where each lies; returns the unit."""
    plan = Plan.load(work)
    with plan.reporting("tokens", number):
        _write_tokens(number, plan, digest)
    return number


def _write_tokens(number: int, plan: Plan, digest: str) -> None:
    unicode_form = plan.config.clean.unicode_form
    encoder, exported, is_byte = _encoder(plan.tokenizer / "tokenizer.json", digest, unicode_form)
    dtype, eos = token_dtype(plan.vocabulary.size), plan.vocabulary.special_ids["eos"]
    places: list[tuple[Any, ...]] = []
    tokens, sentences, counts = 0, 0, Counter(dict.fromkeys(COUNTED, 0))
    mismatching: list[str] = []
    with (
        atomic_path(plan.file("tokens", number, "tokens")) as token_path,
        atomic_path(plan.file("tokens", number, "sentences")) as sentence_path,
        token_path.open("wb") as token_file,
        sentence_path.open("wb") as sentence_file,
    ):
        rows, again = tee(kept.kept(plan, number, ["id", "text", "hash"]))
        for row, (ids, begins) in zip(rows, encoder.encode_all(row["text"] for row in again), strict=True):
            text = row["text"]
            token_file.write(np.append(ids, eos).astype(dtype).tobytes())
            sentence_file.write((begins + np.uint64(tokens)).astype("<u8").tobytes())
            place = Place(row["hash"], number, tokens, tokens + len(ids) + 1, sentences, sentences + len(begins))
            places.append((row["cluster"], *place))
            tokens, sentences = place.token_end, place.sentence_end
            counts["characters"] += len(text)
            counts["words"] += count_words(text)
            counts["byte_tokens"] += int(is_byte[ids].sum())
            if _differs(text, row["hash"], ids, encoder, exported):
                mismatching.append(row["id"])
    with atomic_path(plan.file("tokens", number, "parquet")) as temporary:
        columns = [list(column) for column in zip(*places, strict=True)] or [[] for _ in PLACES]
        pq.write_table(pa.table(columns, schema=PLACES), temporary)
    _write_bins(number, plan, places)
    found = {"mismatches": len(mismatching), "mismatching": mismatching[:3]}
    result = {"documents": len(places), "tokens": tokens, "sentences": sentences, **counts, **found}
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
