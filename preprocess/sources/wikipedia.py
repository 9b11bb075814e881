"""MediaWiki XML dumps, streamed page by page in constant memory."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from io import BufferedIOBase
from typing import cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from pipeline.errors import InputError
from preprocess.records import DeadLetter, Document, Item, Skipped, Unit, Wiki, snippet
from preprocess.sources.compressed import TruncatedError, open_stream
from preprocess.sources.disambiguation import is_disambiguation

_FILES, _CATEGORIES = ("-2", "6"), ("14",)  # keys of namespaces, the same in all wikis


def read(unit: Unit) -> Iterator[Item]:
    """The articles of a dump, or of a range of its streams: namespace 0, no redirects, no disambiguation pages.

    Raises:
        TruncatedError: the dump ends too early; every page before that place was given.
        InputError: damaged, or no dump at all. Both name the file and the byte reached.
    """
    pages = 0
    path = unit.path
    wiki = _wiki(unit)
    with open_stream(path, unit.begin, unit.end) as (stream, raw):
        try:
            for page in _pages(stream, unit):
                pages += 1
                yield _item(page, unit, wiki)
        except ParseError as error:
            where = f"after {pages} pages, at byte {raw.tell()} of {unit.bytes}"
            raise InputError(f"{path}: damaged dump: {error}, {where}") from None
        except EOFError as error:
            # (no number of pages or lines: a dead letter says the same of a range as of the whole)
            raise TruncatedError(path, f"truncated dump: {error}, at byte {raw.tell()} of {unit.bytes}") from None


def _wiki(unit: Unit) -> Wiki | None:
    """What `<siteinfo>`, at the head of the file, says of files and categories. What is wrong there, `read` meets."""
    whole = replace(unit, begin=0, end=unit.bytes)
    names: dict[str, set[str]] = {}
    language = ""
    with suppress(InputError, ParseError, EOFError), open_stream(unit.path) as (stream, _):
        for event, element in _events(stream, whole):
            tag = _local(element.tag)
            language = language or element.get("{http://www.w3.org/XML/1998/namespace}lang", "")
            if event == "end" and tag == "namespace" and element.text:
                names.setdefault(element.get("key", ""), set()).add(element.text.lower())
            if (event, tag) in (("end", "siteinfo"), ("start", "page")):
                break
    files, categories = ({name for key in keys for name in names.get(key, ())} for keys in (_FILES, _CATEGORIES))
    return Wiki(language, frozenset(files), frozenset(categories)) if names else None


def _pages(stream: BufferedIOBase, unit: Unit) -> Iterator[Element]:
    """Each `<page>` element; what was read is freed on the way."""
    events = _events(stream, unit)
    _, root = next(events)
    if _local(root.tag) != "mediawiki":
        raise InputError(f"{unit.path}: not a MediaWiki dump: its root is <{_local(root.tag)}>, not <mediawiki>")
    for event, element in events:
        if event == "end" and _local(element.tag) == "page":
            yield element
            root.clear()


def _events(stream: BufferedIOBase, unit: Unit) -> Iterator[tuple[str, Element]]:
    """Beginnings and ends of elements; a part of a dump is given the root that it lacks."""
    parser: XMLPullParser[Element] = XMLPullParser(("start", "end"))  # (expat bounds entities)
    try:
        for chunk in _framed(stream, unit):
            parser.feed(chunk)
            yield from cast(Iterator[tuple[str, Element]], parser.read_events())
        try:
            parser.close()
        except ParseError:
            raise EOFError("elements are open that nothing closes") from None
    except (LookupError, ValueError) as error:  # the XML declaration names an encoding that expat cannot use
        raise InputError(f"{unit.path}: not a MediaWiki dump: {error}; expected UTF-8") from None
    yield from cast(Iterator[tuple[str, Element]], parser.read_events())


def _framed(stream: BufferedIOBase, unit: Unit) -> Iterator[bytes]:
    if unit.begin > 0:
        yield b"<mediawiki>"
    while chunk := stream.read1(65_536):  # (read would lose what it has of a chunk where the stream is cut off)
        yield chunk
    if unit.end < unit.bytes:
        yield b"</mediawiki>"


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]  # the namespace carries the version of the export format


def _item(page: Element, unit: Unit, wiki: Wiki | None) -> Item:
    """What a page is. One without `<id>` is named by its title: its number would depend on the range."""
    children = {_local(child.tag): child for child in page}
    own_id, title = (children[name].text or "" if name in children else "" for name in ("id", "title"))
    id = f"{unit.source}/{unit.name}#{own_id or title or 'untitled'}"
    if "redirect" in children:
        return Skipped("redirect")
    if "ns" in children and children["ns"].text != "0":  # dumps before 2012 do not have it
        return Skipped("other-namespace")
    revision = {_local(child.tag): child for child in children.get("revision", ())}
    if "text" not in revision:
        missing = "text" if "revision" in children else "revision"
        return DeadLetter(id, "read", "no-text", f"the page has no <{missing}>", snippet(title))
    said = {"revision": "id", "timestamp": "timestamp"}
    meta = {key: revision[name].text or "" for key, name in said.items() if name in revision}
    text = revision["text"].text or ""
    if is_disambiguation(text):
        return Skipped("disambiguation")
    return Document(id, unit.source, title, text, "wikitext", meta, wiki)
