"""Exact duplicates: documents whose normalised texts have the same SHA-256; the smallest id stays, the first of it."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple


class Claim(NamedTuple):
    """One document in the search for duplicates, without its text; a dump may give two documents the same id."""

    hash: str
    id: str
    unit: int
    row: int  # among the documents of its unit
    characters: int


class Loser(NamedTuple):
    """A document that is dropped, and the id of the equal one that stays."""

    row: int
    id: str
    characters: int
    kept: str


def content_hash(text: str) -> str:
    """SHA-256 (hex) of a cleaned text, blind to case and to how its words are spaced; split, shard and order follow."""
    folded = text.casefold().replace("\n", " ")
    while "  " in folded:
        folded = folded.replace("  ", " ")
    return hashlib.sha256(folded.encode()).hexdigest()


def key_of(hash: str) -> int:
    """The first 63 bits of a content hash: what Beam groups by (every runner encodes integers alike)."""
    return int(hash[:16], 16) >> 1


def losers(claims: Iterable[Claim]) -> list[tuple[int, Loser]]:
    """(unit, loser) for all but the smallest claim of each full hash among documents that share a 63-bit key."""
    kept: dict[str, Claim] = {}
    ordered = sorted(claims)
    for claim in ordered:
        kept.setdefault(claim.hash, claim)
    return [(c.unit, Loser(c.row, c.id, c.characters, kept[c.hash].id)) for c in ordered if kept[c.hash] is not c]
