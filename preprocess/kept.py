"""Which documents stay: reading what `documents` and `near` wrote of a unit."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pyarrow.parquet as pq

from pipeline.files import read_json
from preprocess.plan import Plan


def duplicates(plan: Plan, unit: int) -> list[dict[str, Any]]:
    """The documents of a unit that equal another: row, id, characters, and the id of the one that is kept."""
    path = plan.file("documents", unit, "json", "duplicates")
    return list(read_json(path)["losers"]) if path.exists() else []


def members(plan: Plan, unit: int) -> list[dict[str, Any]]:
    """The documents of a unit that have near-duplicates: row, characters, `cluster` (the content hash of the first of
    them), and its `size` at that first one, else 0."""
    if "near" not in plan.folders:
        return []
    path = plan.file("near", unit, "json", "clusters")
    return list(read_json(path)["members"]) if path.exists() else []


def near_duplicates(plan: Plan, unit: int) -> list[dict[str, Any]]:
    """The members of clusters that are left out of the corpus."""
    near = plan.config.dedup.near
    together = near is None or near.action == "keep-together"
    return [] if together else [member for member in members(plan, unit) if not member["size"]]


def cluster_sizes(plan: Plan) -> dict[str, int]:
    """How many clusters of near-duplicates have how many documents."""
    sizes = Counter(member["size"] for unit in plan.units for member in members(plan, unit.number) if member["size"])
    return {str(size): sizes[size] for size in sorted(sizes)}


def characters(plan: Plan) -> int:
    """Of all documents that stay."""
    read = sum(result["characters"] for result in plan.results("documents"))
    lost = (lost for unit in plan.units for found in (duplicates, near_duplicates) for lost in found(plan, unit.number))
    return int(read - sum(document["characters"] for document in lost))


def distinct(plan: Plan, unit: int, columns: list[str] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """(row, document) of a unit without exact duplicates, in the unit's order; all columns, or some."""
    dropped = {loser["row"] for loser in duplicates(plan, unit)}
    with pq.ParquetFile(plan.file("documents", unit, "parquet")) as file:
        groups = (file.read_row_group(group, columns).to_pylist() for group in range(file.num_row_groups))
        for row, document in enumerate(chain.from_iterable(groups)):
            if row not in dropped:
                yield row, document


def kept(plan: Plan, unit: int, columns: list[str] | None = None) -> Iterator[dict[str, str]]:
    """The documents of a unit that are in the corpus, in its order. `cluster` is the content hash of the first of a
    document's near-duplicates, else its own: its split follows from it."""
    clusters = {member["row"]: member["cluster"] for member in members(plan, unit)}
    dropped = {member["row"] for member in near_duplicates(plan, unit)}
    for row, document in distinct(plan, unit, columns):
        if row not in dropped:
            yield {**document, "cluster": clusters.get(row, document["hash"])}
