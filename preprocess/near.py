"""Near-duplicates: documents that share a band of their MinHash signatures, in clusters; of each the first one stays.

    unit → bands of its documents → files;  part of all band hashes → links between documents → file
    all links → clusters → a file for each unit, by the driver

A document's number is its unit and row, so the first is the first by source, file and place. Bands and links lie
in files; only numbers of units and parts pass through Beam.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.files import atomic_path, write_json
from preprocess import kept
from preprocess.minhash import band_hashes
from preprocess.plan import Plan

_PART_BYTES = 64_000_000  # of band hashes in a part, whose task takes about ten times as much memory
_GATHERED = 1 << 22  # links that are at least taken together
_ROW = (1 << 32) - 1

Nodes = npt.NDArray[np.int64]  # documents: unit << 32 | row
Links = npt.NDArray[np.int64]  # rows of two documents


def _map(path: Path, dtype: str) -> npt.NDArray[Any]:
    """A file of numbers, memory-mapped."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)


def parts(plan: Plan) -> int:
    """Into how many ranges the band hashes are divided, a task each. The clusters do not depend on it."""
    bytes = sum(plan.file("near", unit.number, "bands").stat().st_size for unit in plan.units)
    return max(1, bytes // _PART_BYTES)


def write_bands(number: int, work: str) -> int:
    """Write the band hashes of a unit's documents in their order, and each document's content hash and length; returns
    the unit."""
    plan = Plan.load(work)
    with plan.reporting("near", number):
        _write_bands(number, plan)
    return number


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


def write_links(part: int, work: str, count: int) -> int:
    """Write the links of one of `count` parts: documents that share a band hash, each with the first of them."""
    plan = Plan.load(work)
    with plan.reporting("near", part), atomic_path(_links_file(plan, part)) as temporary:
        temporary.write_bytes(_links(plan, part, count).astype("<i8").tobytes())
    return part


def _links_file(plan: Plan, part: int) -> Path:
    return plan.file("near", part, "links", "part")


def _links(plan: Plan, part: int, count: int) -> Links:
    begin, end = (part << 64) // count, ((part + 1) << 64) // count
    bands, nodes = [], []
    for unit in range(len(plan.units)):
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
    return np.unique(np.stack([leader, node], axis=1)[leader != node], axis=0)


def clusters(links: Links) -> tuple[Nodes, Nodes]:
    """The documents that have links, ascending, and the first of all that each is connected with, however indirectly.

    Labels are propagated until nothing changes: firsts of clusters that a link joins learn of the smallest, then all
    documents of their firsts. Two rounds leave at most about half of the firsts that are to go.
    """
    nodes, ends = np.unique(links, return_inverse=True)
    one, other = ends.reshape(-1, 2).T
    first = np.arange(len(nodes))
    while (first[one] != first[other]).any():
        np.minimum.at(first, np.maximum(first[one], first[other]), np.minimum(first[one], first[other]))
        while (first[first] != first).any():
            first = first[first]
    return nodes, nodes[first]


def _gathered(parts: Iterable[Links]) -> tuple[Nodes, Nodes]:
    """`clusters` of the links of all parts; of those before, only one for each document is held."""
    links, more = np.zeros((0, 2), np.int64), 0
    for part in parts:
        links, more = np.concatenate([links, part]), more + len(part)
        if more > max(_GATHERED, len(links) // 2):
            links, more = np.stack(clusters(links), axis=1), 0
    return clusters(links)


def write_clusters(plan: Plan, count: int) -> None:
    """Write which documents of each unit are in clusters, and the content hash of each one's first, from `count` parts.

    Links are numbers, so one process can hold them: it takes about 250 bytes for each document in a cluster.
    """
    nodes, firsts = _gathered(_map(_links_file(plan, part), "<i8").reshape(-1, 2) for part in range(count))
    _, cluster, sizes = np.unique(firsts, return_inverse=True, return_counts=True)
    at_first = np.where(nodes == firsts, sizes[cluster], 0)
    units, begins = np.unique(nodes >> 32, return_index=True)
    ends = np.append(begins, len(nodes))[1:]
    for unit, begin, end in zip(units.tolist(), begins, ends, strict=True):
        rows = nodes[begin:end] & _ROW
        values = {
            "row": rows.tolist(),
            "cluster": _content_hashes(plan, firsts[begin:end]),
            "characters": _map(plan.file("near", unit, "characters"), "<u4")[rows].tolist(),
            "size": at_first[begin:end].tolist(),
        }
        members = [dict(zip(values, member, strict=True)) for member in zip(*values.values(), strict=True)]
        write_json(plan.file("near", unit, "json", "clusters"), {"members": members})


def _content_hashes(plan: Plan, nodes: Nodes) -> list[str]:
    """The documents' content hashes; each unit's file is opened once."""
    hashes = np.zeros((len(nodes), 32), np.uint8)
    units = nodes >> 32
    for unit in np.unique(units).tolist():
        here = units == unit
        hashes[here] = _map(plan.file("near", unit, "hashes"), "u1").reshape(-1, 32)[nodes[here] & _ROW]
    return [row.tobytes().hex() for row in hashes]
