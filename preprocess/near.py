"""Near-duplicates: documents that share a band of their MinHash signatures, in clusters; of each the first one stays.

    unit → bands of its documents → files;  (part of all band hashes, unit) → group → pairs of documents
    (document, documents) → group → smallest → …, ROUNDS times;  (unit, members of clusters) → group → file

A document's number is its unit and row, so the first is the first by source, file and place. Bands are compared through
files; only numbers of documents that share one pass through Beam.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.files import atomic_path, write_json
from preprocess import kept
from preprocess.minhash import band_hashes
from preprocess.plan import Plan

ROUNDS = 8  # of label propagation: enough for chains of fifty documents of which only neighbours share a band
_MOST_PARTS = 1024
_ROW = (1 << 32) - 1

Message = tuple[int, tuple[int, ...]]


def _map(path: Path, dtype: str) -> npt.NDArray[Any]:
    """A file of numbers, memory-mapped."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)


def parts(plan: Plan) -> int:
    """Into how many ranges the band hashes are divided, a task each. The clusters do not depend on it."""
    return min(len(plan.units), _MOST_PARTS)


def write_bands(number: int, work: str) -> list[tuple[int, int]]:
    """Write the band hashes of a unit's documents in their order, and each document's content hash and length.

    Returns:
        (part, unit) for every part.
    """
    plan = Plan.load(work)
    with plan.reporting("near", number):
        _write_bands(number, plan)
        return [(part, number) for part in range(parts(plan))]
    return []


def _write_bands(number: int, plan: Plan) -> None:
    near = plan.config.dedup.near
    assert near is not None
    bands, rows = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)]
    hashes: list[bytes] = []
    characters: list[int] = []
    for row, document in kept.distinct(plan, number, ["text", "hash"]):
        found = band_hashes(document["text"], near)
        bands.append(found)
        rows.append(np.full(len(found), row, np.uint32))
        missing = row - len(characters)  # exact duplicates have no place in a cluster, but a row
        hashes += [bytes(32)] * missing + [bytes.fromhex(document["hash"])]
        characters += [0] * missing + [len(document["text"])]
    band, row_of = np.concatenate(bands), np.concatenate(rows)
    order = np.lexsort((row_of, band))
    columns = {
        "bands": band[order].astype("<u8"),
        "rows": row_of[order].astype("<u4"),
        "hashes": np.frombuffer(b"".join(hashes), np.uint8),
        "characters": np.array(characters, "<u4"),
    }
    for suffix, values in columns.items():
        with atomic_path(plan.file("near", number, suffix)) as temporary:
            temporary.write_bytes(values.tobytes())
    write_json(plan.file("near", number, "json"), {"documents": len(bands) - 1})


def find_pairs(group: tuple[int, Iterable[int]], work: str) -> Iterator[Message]:
    """The documents that share a band hash of one part, each with the first of them, both ways."""
    plan = Plan.load(work)
    part, count = group[0], parts(plan)
    begin, end = (part << 64) // count, ((part + 1) << 64) // count
    bands, nodes = [], []
    for unit in sorted(set(group[1])):
        band = _map(plan.file("near", unit, "bands"), "<u8")
        low = int(np.searchsorted(band, np.uint64(begin)))
        high = len(band) if end == 1 << 64 else int(np.searchsorted(band, np.uint64(end)))
        bands.append(np.array(band[low:high]))  # copied: a mapped file is an open one, and there may be many
        nodes.append(_map(plan.file("near", unit, "rows"), "<u4")[low:high].astype(np.int64) | (unit << 32))
    band, node = np.concatenate(bands), np.concatenate(nodes)
    order = np.argsort(band, kind="stable")  # nodes ascend already
    band, node = band[order], node[order]
    first = np.flatnonzero(np.concatenate([[True], band[1:] != band[:-1]])) if len(band) else np.zeros(0, np.int64)
    leader = np.repeat(node[first], np.diff(first, append=len(band)))
    pairs = np.unique(np.stack([leader, node], axis=1)[leader != node], axis=0)
    for one, other in pairs.tolist():
        yield one, (one, other)
        yield other, (one, other)


def to_smallest(group: tuple[int, Iterable[tuple[int, ...]]]) -> Iterator[Message]:
    """One round of Hash-to-Min (Rastogi et al. 2012): the smallest learns of all, all learn of the smallest."""
    members = sorted({group[0]}.union(*group[1]))
    smallest = members[0]
    yield smallest, tuple(members)
    for member in members[1:]:
        yield member, (smallest,)


def find_members(group: tuple[int, Iterable[tuple[int, ...]]]) -> tuple[int, tuple[int, int, int]]:
    """(unit, (row, first of the cluster, documents in the cluster where this is the first, else 0))."""
    node = group[0]
    members = {node}.union(*group[1])
    smallest = min(members)
    return node >> 32, (node & _ROW, smallest, len(members) if smallest == node else 0)


def write_members(group: tuple[int, Iterable[tuple[int, int, int]]], work: str) -> int:
    """Write which documents of a unit are in clusters, and the content hash of each one's first; returns the unit."""
    plan = Plan.load(work)
    unit = group[0]
    characters = _map(plan.file("near", unit, "characters"), "<u4")
    members = []
    for row, first, size in sorted(group[1]):
        hashes = _map(plan.file("near", first >> 32, "hashes"), "u1")
        at = 32 * (first & _ROW)
        cluster = hashes[at : at + 32].tobytes().hex()
        members.append({"row": row, "cluster": cluster, "characters": int(characters[row]), "size": size})
    with plan.reporting("near", unit):
        write_json(plan.file("near", unit, "json", "clusters"), {"members": members})
    return unit
