"""Templates, tables and internal links: `{{…}}`, `{|…|}` and `[[…]]`, however nested, in one pass.

The time is linear in the page and in the depth of its nesting, which is limited: no clock is needed that would make the
result depend on the machine.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from preprocess.clean import links, templates
from preprocess.clean.errors import UncleanableError
from preprocess.records import Wiki

DEEPEST = 100  # open constructs; MediaWiki expands no more than 40 templates in one another

_TOKEN = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}(?!\})")
_CLOSES = {"}}": "{{", "]]": "[[", "|}": "{|"}
_INDENT = " :*#;"
_WIDEST_INDENT = 20


@dataclass
class _Open:
    """A construct that is open while the scanner passes, and the text within it so far."""

    opener: str
    parts: list[str] = field(default_factory=list)


class _Scanner:
    def __init__(self, wiki: Wiki, removed: Counter[str]) -> None:
        self.wiki, self.removed = wiki, removed
        self.stack = [_Open("")]
        self.opened = {"{{": 0, "[[": 0, "{|": 0}

    def add(self, text: str) -> None:
        self.stack[-1].parts.append(text)

    def open(self, opener: str) -> None:
        if len(self.stack) > DEEPEST:
            raise UncleanableError(f"over {DEEPEST} templates, tables and links in one another", "too-deep")
        self.stack.append(_Open(opener))
        self.opened[opener] += 1

    def close(self, opener: str) -> None:
        """Close the innermost construct of this kind; those within it that are still open were never closed."""
        if not self.opened[opener]:
            return  # nothing to close: the token goes
        closed = False
        while not closed:
            construct = self._pop()
            closed = construct.opener == opener
            self.add(self._shown(construct) if closed else _abandoned(construct))

    def finish(self) -> str:
        while len(self.stack) > 1:
            construct = self._pop()
            self.add(_abandoned(construct))
        return "".join(self.stack[0].parts)

    def _pop(self) -> _Open:
        construct = self.stack.pop()
        self.opened[construct.opener] -= 1
        return construct

    def _shown(self, construct: _Open) -> str:
        body = "".join(construct.parts)
        if construct.opener == "[[":
            return links.internal(body, self.wiki, self.removed)
        shown = templates.render(body, self.wiki.language) if construct.opener == "{{" else None
        if shown is None:
            self.removed["templates" if construct.opener == "{{" else "tables"] += 1
        return shown or ""


def _abandoned(construct: _Open) -> str:
    """A construct that was never closed: its words stay; of a template or a table, the first line goes."""
    body = "".join(construct.parts)
    return body if construct.opener == "[[" else body.partition("\n")[2]


def _begins_line(text: str, position: int) -> bool:
    """Whether nothing but marks of lists and indents stands before `position` in its line."""
    before = text[max(0, position - _WIDEST_INDENT) : position].rstrip(_INDENT)
    return before[-1:] == "\n" or (not before and position <= _WIDEST_INDENT)


def replace(text: str, wiki: Wiki, removed: Counter[str]) -> str:
    """The text with every construct replaced by what it shows.

    Raises:
        UncleanableError: they are nested deeper than `DEEPEST`.
    """
    scanner, position = _Scanner(wiki, removed), 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("{|", "|}") and not _begins_line(text, match.start()):
            continue  # no table: it stays within the text
        scanner.add(text[position : match.start()])
        position = match.end()
        if token in _CLOSES:
            scanner.close(_CLOSES[token])
        else:
            scanner.open(token)
    scanner.add(text[position:])
    return scanner.finish()
