"""Plain-text books: Project Gutenberg's header and licence, and lines that were wrapped at a fixed width."""

import re
from itertools import pairwise

_START = re.compile(r"^\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*?\*{3}[^\n]*\n", re.M | re.I | re.S)
_END = re.compile(
    r"^(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK|End of (?:the )?Project Gutenberg)", re.M | re.I
)
_PRODUCED = re.compile(r"\A\s*(?:Produced by|E-text prepared by)[^\n]*(?:\n[^\n]+)*", re.I)


def strip_boilerplate(text: str) -> str:
    """The book between the START and END lines; text without such lines is returned whole."""
    start = _START.search(text)
    if start:
        text = text[start.end() :]
    end = _END.search(text)
    if end:
        text = text[: end.start()]
    return _PRODUCED.sub("", text)


def unwrap(text: str) -> str:
    """Join the lines of wrapped paragraphs, keep those of verse.

    A line was wrapped where the next line's first word would not have fitted into the book's width any more; verse ends
    its lines earlier than that. The width is what 99 of 100 lines keep to: a few (tables, addresses) are always longer.
    """
    lengths = sorted(len(line) for line in text.split("\n") if line)
    width = lengths[len(lengths) * 99 // 100] if lengths else 0
    return "\n\n".join(_unwrap(paragraph.split("\n"), width) for paragraph in text.split("\n\n"))


def _unwrap(lines: list[str], width: int) -> str:
    joined = lines[0]
    for previous, line in pairwise(lines):
        wrapped = len(previous) + 1 + len(line.partition(" ")[0]) > width
        joined += (" " if wrapped else "\n") + line
    return joined


def clean(text: str) -> str:
    """The plain text of a book, given text that `unicode.normalise` has seen."""
    return unwrap(strip_boilerplate(text))
