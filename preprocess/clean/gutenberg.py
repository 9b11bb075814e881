"""Plain-text books: Project Gutenberg's header and licence, and lines that were wrapped at a fixed width.

A book that names Project Gutenberg has a header and a licence, which are some thousand characters: where less than half
of it is left, or nearly all, the marks were not where they are expected, and the book is refused.
"""

import re
from itertools import pairwise

from preprocess.clean.errors import UncleanableError

_START = re.compile(r"^\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*?\*{3}[^\n]*\n", re.M | re.I | re.S)
_END = re.compile(
    r"^(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK|End of (?:the )?Project Gutenberg)", re.M | re.I
)
_PROJECT = re.compile(r"project gutenberg", re.I)
_CREDITS = re.compile(
    r"project gutenberg|gutenberg\.(?:org|net)|\A\W*e-?text\b|\A\W*this e-?(?:text|book) was (?:prepared|produced)"
    r"|\A\W*produced by|images of the original|^\(?https?://\S+\)?$",
    re.I | re.M,
)
LEAST, MOST = 0.5, 0.999  # of its characters that a book keeps


def strip_boilerplate(text: str) -> str:
    """The book between the START and END lines, without the credits and notes at its beginning."""
    start = _START.search(text)
    if start:
        text = text[start.end() :]
    end = _END.search(text)
    if end:
        text = text[: end.start()]
    return _strip_credits(text) if start else text


def _strip_credits(text: str) -> str:
    while True:
        first, _, rest = text.strip("\n").partition("\n\n")
        if not rest or not _CREDITS.search(first):
            return text
        text = rest


def _check_share(kept: str, text: str) -> None:
    share = len(kept) / max(len(text), 1)
    if _PROJECT.search(text) and not LEAST <= share <= MOST:
        raise UncleanableError(
            f"{share:.1%} of the book would be left without Project Gutenberg's header and licence,"
            f" expected {LEAST:.0%} to {MOST:.1%}"
        )


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
    """The plain text of a book, given text that `unicode.normalise` has seen.

    Raises:
        UncleanableError: a book of Project Gutenberg that does not begin and end as such books do.
    """
    kept = strip_boilerplate(text)
    _check_share(kept, text)
    return unwrap(kept)
