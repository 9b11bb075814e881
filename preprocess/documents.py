"""From a unit to its documents on disk, and from claims to duplicates: the tasks of the first pipeline."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import atomic_path, write_json
from preprocess import evaluation, sources
from preprocess.clean import clean, unbroken
from preprocess.clean.errors import UncleanableError
from preprocess.config import CorpusConfig
from preprocess.dedup import Claim, Loser, content_hash, key_of, losers
from preprocess.filters import judge
from preprocess.filters.contamination import Contamination
from preprocess.plan import Plan
from preprocess.records import DeadLetter, Document, Item, snippet

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "source", "title", "text", "hash")),
        ("meta", pa.map_(pa.string(), pa.string())),
    ]
)
ROW_GROUP_CHARACTERS = 16_000_000  # bounds the memory of a task, writing and reading


def cleaned(
    item: Item, config: CorpusConfig, removed: Counter[str], contamination: Contamination | None = None
) -> Item:
    """A document with its clean text, or the dead letter that it became; anything else as it is.

    Args:
        removed: what cleaning and filters removed from documents is added to it by rule.
    """
    if not isinstance(item, Document):
        return item
    if len(item.text) > config.clean.max_characters:
        what = f"{len(item.text)} characters, expected at most {config.clean.max_characters}"
        return DeadLetter(item.id, "clean", "oversized", what, snippet(item.text), item.meta)
    try:
        text, lost = clean(item.text, item.markup, config.clean, item.wiki)
        unbroken.check(text, config.clean.max_unbroken)
    except UncleanableError as error:
        return DeadLetter(item.id, "clean", error.rule, str(error), snippet(item.text), item.meta)
    text, cut, refusal = judge(text, item.source, config.filter, contamination)
    if refusal:
        return DeadLetter(item.id, "filter", *refusal, snippet(text or item.text), item.meta)
    removed.update(lost + cut)
    return replace(item, text=text)


class _Rows:
    """Documents on their way into a Parquet file, a bounded number of characters at a time."""

    def __init__(self, path: Path) -> None:
        self.writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self.rows: list[dict[str, Any]] = []
        self.characters = 0

    def add(self, document: Document, hash: str) -> None:
        row = {**asdict(document), "hash": hash}
        self.rows.append({name: row[name] for name in SCHEMA.names})
        self.characters += len(document.text)
        if self.characters >= ROW_GROUP_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, SCHEMA))
        self.rows, self.characters = [], 0

    def close(self) -> None:
        self.flush()
        self.writer.close()


def write_documents(
    number: int, work: str, evaluation_sha256: str = ""
) -> list[tuple[int, tuple[str, str, int, int, int]]]:
    """Read, clean and filter one unit; write its documents, dead letters and counts.

    Args:
        evaluation_sha256: of the n-grams of evaluation texts, where there are any.

    Returns:
        (63-bit key, claim) for each document.
    """
    plan = Plan.load(work)
    with plan.reporting("documents", number):
        contamination = _contamination(plan, evaluation_sha256) if evaluation_sha256 else None
        return [(key_of(claim.hash), (*claim,)) for claim in _write_documents(number, plan, contamination)]
    return []


def _contamination(plan: Plan, sha256: str) -> Contamination:
    config = plan.config.filter.decontaminate
    assert config is not None
    return Contamination(config, evaluation.load(str(plan.ngrams), sha256), plan.evaluation)


def _write_documents(number: int, plan: Plan, contamination: Contamination | None) -> list[Claim]:
    claims: list[Claim] = []
    letters: list[DeadLetter] = []
    counts: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    config, unit = plan.config, plan.units[number]
    source = next(source for source in config.sources if source.name == unit.source)
    with atomic_path(plan.file("documents", number, "parquet")) as temporary:
        rows = _Rows(temporary)
        for item in (
            cleaned(item, config, removed, contamination) for item in sources.read(unit, source.on_truncation)
        ):
            if isinstance(item, DeadLetter):
                letters.append(item)
            elif isinstance(item, Document):
                hash = content_hash(item.text)
                claims.append(Claim(hash, item.id, number, len(claims), len(item.text)))
                rows.add(item, hash)
            else:
                counts[item.rule] += 1
        rows.close()
    lines = sorted(json.dumps(asdict(letter), sort_keys=True, ensure_ascii=False) + "\n" for letter in letters)
    with atomic_path(plan.file("documents", number, "jsonl")) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    result = {
        "accepted": len(claims),
        "characters": sum(claim.characters for claim in claims),
        "skipped": dict(counts),
        "removed": dict(removed),
        "dead_letters": dict(Counter(letter.rule for letter in letters)),
        "broken": sum(letter.stage != "filter" for letter in letters),
    }
    write_json(plan.file("documents", number, "json"), result)
    return claims


def find_losers(
    group: tuple[int, Iterable[tuple[str, str, int, int, int]]],
) -> list[tuple[int, tuple[int, str, int, str]]]:
    """(unit, loser) for the duplicates among documents of one 63-bit key."""
    return [(unit, (*loser,)) for unit, loser in losers(Claim(*claim) for claim in group[1])]


def write_losers(group: tuple[int, Iterable[tuple[int, str, int, str]]], work: str) -> int:
    """Write the duplicates of one unit, sorted; returns the unit."""
    unit, found = group
    rows = [Loser(*loser)._asdict() for loser in sorted(found)]
    plan = Plan.load(work)
    with plan.reporting("documents", unit):
        write_json(plan.file("documents", unit, "json", "duplicates"), {"losers": rows})
    return unit
