"""MediaWiki XML dumps, streamed page by page in constant memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError, iterparse

from pipeline.errors import InputError
from preprocess.records import DeadLetter, Document, Item, Skipped, Unit, snippet
from preprocess.sources.compressed import open_stream


def read(unit: Unit) -> Iterator[Item]:
    """The articles of a dump (namespace 0, no redirects), with their wikitext.

    Raises:
        InputError: truncated, damaged or no dump at all; names the file, the page and the byte reached.
    """
    pages = 0
    path = Path(unit.path)
    with open_stream(path) as (stream, raw):
        try:
            for page in _pages(stream, path):
                pages += 1
                yield _item(page, pages, unit)
        except ParseError as error:
            where = f"after {pages} pages, at byte {raw.tell()} of {unit.bytes}"
            raise InputError(f"{path}: truncated or damaged dump: {error}, {where}") from None
        except EOFError:
            where = f"after {pages} pages, at byte {raw.tell()} of {unit.bytes}"
            raise InputError(f"{path}: truncated dump: the compressed stream is cut off {where}") from None


def _pages(stream: BinaryIO, path: Path) -> Iterator[Element]:
    """Each `<page>` element; what was read is freed on the way."""
    events = iterparse(stream, events=("start", "end"))  # noqa: S314  (expat bounds entities)
    try:
        _, root = next(events)
    except (LookupError, ValueError) as error:  # the XML declaration names an encoding that expat cannot use
        raise InputError(f"{path}: not a MediaWiki dump: {error}; expected UTF-8") from None
    if _local(root.tag) != "mediawiki":
        raise InputError(f"{path}: not a MediaWiki dump: its root is <{_local(root.tag)}>, not <mediawiki>")
    for event, element in events:
        if event == "end" and _local(element.tag) == "page":
            yield element
            root.clear()


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]  # the namespace carries the version of the export format


def _item(page: Element, number: int, unit: Unit) -> Item:
    """What a page is; `number` counts the pages of the dump and names one without `<id>`."""
    children = {_local(child.tag): child for child in page}
    own_id, title = (children[name].text or "" if name in children else "" for name in ("id", "title"))
    id = f"{unit.source}/{unit.name}#{own_id or f'page-{number}'}"
    if "redirect" in children:
        return Skipped("redirect")
    if "ns" in children and children["ns"].text != "0":  # dumps before 2012 do not have it
        return Skipped("other-namespace")
    revision = {_local(child.tag): child for child in children.get("revision", ())}
    if "text" not in revision:
        missing = "text" if "revision" in children else "revision"
        return DeadLetter(id, "read", "no-text", f"the page has no <{missing}>", snippet(title))
    return Document(id, unit.source, title, revision["text"].text or "", "wikitext")
