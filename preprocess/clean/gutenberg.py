"""Plain-text books: Project Gutenberg's header and licence, and lines that were wrapped at a fixed width.

A book that names Project Gutenberg has a header and a licence, which are some thousand characters: where less than half
of it is left, or nearly all, the marks were not where they are expected, and the book is refused.
"""

import re
from itertools import pairwise, takewhile

from preprocess.clean.errors import UncleanableError
from preprocess.shares import over, under

_START = re.compile(r"^\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*?\*{3}[^\n]*\n", re.M | re.I | re.S)
_END = re.compile(
    r"^(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK|End of (?:the )?Project Gutenberg)", re.M | re.I
)
_PROJECT = re.compile(r"project gutenberg", re.I)
_CREDITS = re.compile(
    r"project gutenberg|gutenberg\.(?:org|net)|\A\W*e-?text\b"
    r"|\A\W*this e-?(?:text|book) was (?:prepared|produced|transcribed)|\A\W*(?:produced|transcribed) by"
    r"|\A\W*transcribed from the [^.]*\bedition\b|images of the original|^\(?https?://\S+\)?$",
    re.I | re.M,
)
_NOTE = r"\W{0,200}+transcriber(?:['’]?s['’]?)? note"
_BRACKETED_NOTE = re.compile(r"\[" + _NOTE, re.I)
_BOXED_NOTE = re.compile(r"[|+]" + _NOTE, re.I)
_BRACKET = re.compile(r"[\[\]]")
_LONGEST_NOTE = 20  # paragraphs
LEAST, MOST = 0.5, 0.999  # of its characters that a book keeps


def strip_boilerplate(text: str) -> str:
    """The book between the START and END lines, without credits and transcriber's notes."""
    start = _START.search(text)
    if start:
        text = text[start.end() :]
    end = _END.search(text)
    if end:
        text = text[: end.start()]
    return _strip_credits(_strip_notes(text.strip("\n").split("\n\n"))) if start else text


def _strip_notes(paragraphs: list[str]) -> list[str]:
    """Without the transcriber's notes, which stand in brackets or in a box, most at the beginning or at the end."""
    kept, position = [], 0
    while position < len(paragraphs):
        behind = _note_end(paragraphs, position)
        if behind == position:
            kept.append(paragraphs[position])
        position = max(behind, position + 1)
    return kept


def _note_end(paragraphs: list[str], first: int) -> int:
    """The paragraph behind the note that begins with `first`; `first` where none does, or text goes on behind it."""
    if _BOXED_NOTE.match(paragraphs[first]):
        boxed = all(line[:1] in ("|", "+") for line in paragraphs[first].split("\n"))
        return first + boxed
    if not _BRACKETED_NOTE.match(paragraphs[first]):
        return first
    depth = 0
    for number, paragraph in enumerate(paragraphs[first : first + _LONGEST_NOTE], first):
        for bracket in _BRACKET.finditer(paragraph):
            depth += 1 if bracket[0] == "[" else -1
            if depth == 0:
                return number + 1 if bracket.end() == len(paragraph) else first
    return first


def _strip_credits(paragraphs: list[str]) -> str:
    credits = takewhile(_CREDITS.search, paragraphs[:-1])
    return "\n\n".join(paragraphs[sum(1 for _ in credits) :])


def _check_share(kept: str, text: str) -> None:
    left, whole = len(kept), len(text)
    if _PROJECT.search(text) and (under(left, whole, LEAST) or over(left, whole, MOST)):
        raise UncleanableError(
            f"{left / whole:.1%} of the book would be left without Project Gutenberg's header and licence,"
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
