"""Markdown as books are kept in it: headings, emphasis, hard line breaks, links, lists, quotations, fences."""

import re

from preprocess.clean import entities

_COMMENT = re.compile(r"<!--.*?-->", re.S)
_TAG = re.compile(r"</?[A-Za-z][^<>\n]*>")
_BLOCK = re.compile(r"^(?:#{1,6}\s+|>\s?|[-*+]\s+(?=\S)|\d+[.)]\s+)+", re.M)
_CLOSING_HASHES = re.compile(r"\s+#+$")
_RULE = re.compile(r"^(?:(?:[-*_] ?){3,}|=+|-+)$|^(?:```|~~~).*$")
_IMAGE = re.compile(r"!\[([^\[\]\n]*)\]\([^()\n]*\)")
_LINK = re.compile(r"\[([^\[\]\n]+)\](?:\([^()\n]*\)|\[[^\[\]\n]*\])")
_STAR = re.compile(r"(\*{1,3})(?=\S)([^*\n]+?)(?<=\S)\1")
# within, underscores are parts of words only
_UNDERSCORE = re.compile(
    r"(?<![^\W_])(_{1,3})(?=[^\s_])([^\n_]*(?:(?<=[^\W_])_(?=[^\W_])[^\n_]*)*)(?<=[^\s_])_{1,3}(?![^\W_])"
)
_CODE = re.compile(r"(?<!`)`+([^`\n]+)`+")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_STANDS_ALONE = re.compile(r"^(?:#{1,6}\s|>|[-*+]\s+\S|\d+[.)]\s|\|)")


def _lines(block: str) -> list[str]:
    """The lines of a block after its soft line breaks became spaces.

    `unicode.normalise` strips line ends, where Markdown's two spaces mark a hard break; so `clean` runs
    `mark_hard_breaks` first, which writes them as the other spelling, a back-slash.
    """
    lines: list[list[str]] = []  # of each, its parts
    hard = True
    for line in block.split("\n"):
        if _RULE.match(line):
            hard = True
            continue
        alone = bool(_STANDS_ALONE.match(line))
        text = line.removesuffix("\\").rstrip()
        if hard or alone:
            lines.append([text])
        else:
            lines[-1].append(text)
        hard = line.endswith("\\") or line.startswith("#") or line.startswith("|")
    return [" ".join(parts) for parts in lines]


def _inline(line: str) -> str:
    """One line without its marks."""
    if line.startswith("#"):
        line = _CLOSING_HASHES.sub("", line)
    line = _BLOCK.sub("", line)
    line = _LINK.sub(r"\1", _IMAGE.sub(r"\1", line))
    line = _CODE.sub(r"\1", _TAG.sub("", line))
    line = _UNDERSCORE.sub(r"\2", _STAR.sub(r"\2", line))
    return entities.unescape(_ESCAPED.sub(r"\1", line))


def mark_hard_breaks(text: str) -> str:
    """Two spaces before a line end, in any style of line end, as a back-slash."""
    return re.sub(r"(?<=\S) {2,}(?=\r?\n)", r"\\", text)


def clean(text: str) -> str:
    """The plain text of a Markdown file whose hard breaks are back-slashes: blocks apart by an empty line."""
    end = text.rfind("-->") + 3  # behind it no comment is closed, and none is looked for
    text = _COMMENT.sub("", text[:end]) + text[end:]
    blocks = (_lines(block) for block in text.split("\n\n"))
    return "\n\n".join("\n".join(_inline(line) for line in lines) for lines in blocks if lines)
