"""Wikipedia as WikiExtractor and its kin leave it: `<doc id="…" url="…" title="…">`, the text, `</doc>`, on and on."""

import re
from collections.abc import Iterator

from pipeline.errors import InputError
from preprocess.records import DeadLetter, Document, Item, Unit, snippet
from preprocess.sources.compressed import TruncatedError
from preprocess.sources.lines import LONGEST, open_lines, oversized
from preprocess.sources.lines import ranges as line_ranges

_META = {"url": re.compile(' url="([^"]*)"'), "revision": re.compile(' revid="([^"]*)"')}
_BEGIN = re.compile(r'<doc id="([^"]*)"((?: [a-z]+="[^"]*")*?) title="(.*)">')  # titles keep their own quotation marks


def _is_end(line: bytes) -> bool:
    return line.strip() == b"</doc>"


def ranges(path: str, bytes: int, target: int) -> list[tuple[int, int, int]]:
    """(begin, end, lines before) of ranges of whole articles."""
    return line_ranges(path, bytes, target, _is_end)


def read(unit: Unit) -> Iterator[Item]:
    """The articles of a unit. The title, which is also the text's first line, is kept as a heading.

    Raises:
        TruncatedError: the file ends within an article. InputError: no `<doc>` file, or a damaged compressed one.
    """
    path = unit.path
    with open_lines(unit) as lines:
        begun: re.Match[str] | None = None
        text: list[bytes] = []
        size = 0  # of the article, which is not held once it is too long
        for number, line in lines:
            if begun is None:
                if line.strip():
                    begun = _beginning(line, path, number)
            elif _is_end(line):
                yield _item(begun, b"".join(text), size, unit)
                begun, text, size = None, [], 0
            else:
                size += len(line)
                if size <= LONGEST or not text:
                    text.append(line)
    if begun is not None:
        raise TruncatedError(path, f"truncated: the article {begun[1]} has no </doc>")


def _beginning(line: bytes, path: str, number: int) -> re.Match[str]:
    found = _BEGIN.fullmatch(line.decode("utf-8", "backslashreplace").rstrip("\r\n"))
    if found is None:
        what = snippet(line.decode("utf-8", "backslashreplace"))
        raise InputError(f'{path}:{number}: found {what!r}, expected <doc id="…" url="…" title="…">')
    return found


def _item(begun: re.Match[str], data: bytes, size: int, unit: Unit) -> Item:
    id = f"{unit.source}/{unit.name}#{begun[1]}"
    if size > LONGEST:
        return oversized(id, data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        beginning = snippet(data[:1000].decode("utf-8", "backslashreplace"))
        return DeadLetter(id, "read", "not-utf-8", f"not UTF-8 at byte {error.start} of the article", beginning)
    found = {key: pattern.search(begun[2]) for key, pattern in _META.items()}
    meta = {key: match[1] for key, match in found.items() if match}
    return Document(id, unit.source, begun[3], text, "plain", meta)
