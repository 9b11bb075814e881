"""What passes between the steps of preprocessing: units of input, documents, and what does not become a document."""

from dataclasses import dataclass, field
from typing import Literal

Markup = Literal["wikitext", "markdown", "book", "plain"]  # which cleaner a document's text needs


@dataclass(frozen=True)
class Unit:
    """One piece of input that one task reads: a file, or a range of it, in which `begin` … `end` − 1 are read.

    They count bytes, in Parquet files row groups; `before` counts the lines or rows before them, which ids go on from.
    `name` is the path below the folder that all files of the source share: it is the same on every machine. `bytes` and
    `sha256` are the whole file's.
    """

    number: int
    source: str
    type: str
    path: str
    name: str
    bytes: int
    sha256: str
    begin: int
    end: int
    before: int = 0


@dataclass(frozen=True)
class Wiki:
    """What the head of a dump says of its wiki: its language, and how it calls files and categories, in lower case."""

    language: str = ""
    files: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Document:
    """A text with its `id` (`source/file#part`, for people to find it), before cleaning or after.

    `meta` is where it comes from, as far as the source says so: `url`, `revision`, `timestamp`.
    """

    id: str
    source: str
    title: str
    text: str
    markup: Markup
    meta: dict[str, str] = field(default_factory=dict)
    wiki: Wiki | None = None  # of wikitext


@dataclass(frozen=True)
class DeadLetter:
    """A text that was refused: in which stage, by which rule, why, how it begins, and its `meta` if known."""

    id: str
    stage: Literal["read", "clean", "filter"]
    rule: str
    error: str
    snippet: str
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """A page that is no text by intention (a redirect, a talk page): counted, not kept."""

    rule: str


Item = Document | DeadLetter | Skipped

META = ("url", "revision", "timestamp")  # what is kept of a document's own account of where it comes from
SNIPPET_CHARACTERS = 120


def snippet(text: str) -> str:
    """The beginning of a text on one line, for a dead letter."""
    return " ".join(text[: 2 * SNIPPET_CHARACTERS].split())[:SNIPPET_CHARACTERS]
