"""Whole files as documents: books (plain text and Markdown) and text taken as it is."""

from collections.abc import Iterator
from pathlib import Path

from preprocess.records import DeadLetter, Document, Item, Markup, Unit, snippet


def _read(unit: Unit, markup: Markup) -> Iterator[Item]:
    data = Path(unit.path).read_bytes()
    id = f"{unit.source}/{unit.name}"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        around = data[max(0, error.start - 40) : error.start + 40].decode("utf-8", "backslashreplace")
        yield DeadLetter(id, "read", "not-utf-8", f"not UTF-8 at byte {error.start}: {error.reason}", snippet(around))
        return
    yield Document(id, unit.source, Path(unit.name).stem, text, markup)


def read_book(unit: Unit) -> Iterator[Item]:
    """One book; `.md` and `.markdown` files are Markdown. A file that is not UTF-8 is a dead letter."""
    return _read(unit, "markdown" if Path(unit.name).suffix.lower() in {".md", ".markdown"} else "book")


def read_text(unit: Unit) -> Iterator[Item]:
    """One text file as it is. A file that is not UTF-8 is a dead letter."""
    return _read(unit, "plain")
