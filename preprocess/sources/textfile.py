"""Whole files as documents: books (plain text and Markdown) and text taken as it is.

They are UTF-8; a file that begins with the byte order mark of UTF-16 is read as that.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path

from preprocess.records import DeadLetter, Document, Item, Markup, Unit, snippet
from preprocess.sources.lines import LONGEST, oversized
from preprocess.sources.store import open_file


def _read(unit: Unit, markup: Markup) -> Iterator[Item]:
    id = f"{unit.source}/{unit.name}"
    with open_file(unit.path) as file:
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        yield oversized(id, data)
        return
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        around = data[max(0, error.start - 40) : error.start + 40].decode("utf-8", "backslashreplace")
        name = "UTF-16, as its byte order mark says," if utf16 else "UTF-8"
        yield DeadLetter(id, "read", "not-utf-8", f"not {name} at byte {error.start}: {error.reason}", snippet(around))
        return
    yield Document(id, unit.source, Path(unit.name).stem, text, markup)


def read_book(unit: Unit) -> Iterator[Item]:
    """One book; `.md` and `.markdown` files are Markdown. A file that is not UTF-8 is a dead letter."""
    return _read(unit, "markdown" if Path(unit.name).suffix.lower() in {".md", ".markdown"} else "book")


def read_text(unit: Unit) -> Iterator[Item]:
    """One text file as it is. A file that is not UTF-8 is a dead letter."""
    return _read(unit, "plain")
