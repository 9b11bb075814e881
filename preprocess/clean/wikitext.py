"""Wikitext → plain text.

Templates, tables, files, categories and references are removed by scanners that take linear time, whatever is nested or
left open; what remains (external links, entities) goes to mwparserfromhell. Its `strip_code` on the whole page would
leave references, captions, categories and table rows in the prose, and takes four times as long.
"""

import re
from dataclasses import dataclass, field

import mwparserfromhell
from mwparserfromhell.parser import ParserError

from preprocess.clean.errors import UncleanableError

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)
_NOWIKI = re.compile(r"<nowiki>(.*?)</nowiki>|<nowiki\s*/>", re.S | re.I)
_NOWIKI_END = re.compile(r"</nowiki>", re.I)
_NOWIKI_TAG = re.compile(r"<nowiki\s*/?>", re.I)
_LITERAL = str.maketrans("", "", "{}[]<>|'")
_MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")
# elements whose content is no prose
_ELEMENT = re.compile(
    r"<(/?)(ref|references|pre|gallery|math|chem|ce|timeline|score|syntaxhighlight|source|imagemap|hiero|templatedata"
    r"|mapframe|graph|inputbox|categorytree)\b([^<>]*)>",
    re.I,
)
_TAG = re.compile(r"</?[a-z][^<>]*>", re.I)
_UNCLOSED_URL = re.compile(r"\[(?=(?:[a-z]+:|//)[^\[\]\n]*(?:[\[\n]|\Z))", re.I)
_TOKEN = re.compile(r"\{\{|\}\}|\[\[|\]\]|(?:(?<=\n)|\A)[ :*#;]*\{\||(?<=\n)[ ]*\|\}(?!\})")
_CLOSES = {"}}": "{{", "]]": "[[", "|}": "{|"}
_INTERWIKI = re.compile(r"[a-z]{2,3}(?:-[a-z-]+)?|simple")
_DROPPED_LINK = re.compile(r"(?:file|image|media|category)\s*:", re.I)
_TABLE_ROW = re.compile(r"^[ ]*(?:\|-|\|\+|\|\}|\{\||[|!]).*$", re.M)  # rows of tables that were opened by a template
_LIST_MARK = re.compile(r"^[*#:;]+[^\S\n]*", re.M)
_QUOTES = re.compile(r"'{2,}")
_EMPTY_BRACKETS = re.compile(r" ?\(\s*(?:[,;:]\s*)*\)| ?\[\s*\]")
_OPEN_BRACKET = re.compile(r"\((?:\s*[,;:])+\s*")
_BEFORE_PUNCTUATION = re.compile(r"(?<=\w) +(?=[,.;:!?](?:\s|$))")
# sections of lists, notes and links (English)
_REFERENCE_SECTIONS = frozenset(
    {
        "references",
        "notes",
        "notes and references",
        "references and notes",
        "footnotes",
        "citations",
        "sources",
        "bibliography",
        "see also",
        "external links",
        "further reading",
        "works cited",
        "literature",
    }
)
# templates that stand for words in a sentence: name → the positions of the parameters that are shown
_SHOWN = {"convert": (1, 2), "cvt": (1, 2), "as of": (1,), "lang": (2,), "transl": (2,), "nowrap": (1,), "nobr": (1,)}


_DEEPEST = 100  # open constructs; MediaWiki expands no deeper, and every level reads what is in it again


@dataclass
class _Open:
    """A construct that is open while the scanner passes, and the text within it so far."""

    opener: str
    parts: list[str] = field(default_factory=list)


def _drop_elements(text: str) -> str:
    """Remove elements whose content is no prose; one that is never closed loses its tag only."""
    parts, position = [], 0
    last_close = {match[2].lower(): match.start() for match in _ELEMENT.finditer(text) if match[1]}
    inside = ""
    for match in _ELEMENT.finditer(text):
        closing, name, attributes = match[1], match[2].lower(), match[3]
        if inside:
            if closing and name == inside:
                inside, position = "", match.end()
            continue
        parts.append(text[position : match.start()])
        position = match.end()
        if not closing and not attributes.endswith("/") and last_close.get(name, -1) > match.start():
            inside = name
    parts.append(text[position:])
    return "".join(parts)


def _template(body: str) -> str:
    """What a template contributes to the sentence around it."""
    name, *parameters = (part.strip() for part in body.split("|"))
    shown = _SHOWN.get(name.lower(), ())
    positional = [parameter for parameter in parameters if "=" not in parameter]
    return " ".join(positional[n - 1] for n in shown if n <= len(positional))


def _link(body: str) -> str:
    """The words an internal link shows; nothing for files, categories and links to other languages."""
    target, _, shown = body.partition("|")
    target = target.strip()
    if _DROPPED_LINK.match(target):
        return ""
    prefix, colon, _ = target.partition(":")
    if colon and not shown and _INTERWIKI.fullmatch(prefix):
        return ""
    return shown.rpartition("|")[2] if shown else target.removeprefix(":")


def _close(construct: _Open) -> str:
    body = "".join(construct.parts)
    if construct.opener == "{{":
        return _template(body)
    return _link(body) if construct.opener == "[[" else ""


def _abandon(construct: _Open) -> str:
    """A construct that was never closed: its words stay; of a template or a table, the first line goes."""
    body = "".join(construct.parts)
    return body if construct.opener == "[[" else body.partition("\n")[2]


def _drop_nested(text: str) -> str:
    """Replace `{{…}}`, `{|…|}` and `[[…]]`, however nested, by what they show; openers deeper than `_DEEPEST` go."""
    stack = [_Open("")]
    opened = {"{{": 0, "[[": 0, "{|": 0}
    position = 0
    for match in _TOKEN.finditer(text):
        stack[-1].parts.append(text[position : match.start()])
        position = match.end()
        token = match[0].lstrip(" :*#;")
        if token in opened:
            if len(stack) > _DEEPEST:
                continue
            stack.append(_Open(token))
            opened[token] += 1
            continue
        opener = _CLOSES[token]
        if not opened[opener]:
            continue  # nothing to close: the token goes
        while True:
            construct = stack.pop()
            opened[construct.opener] -= 1
            closed = construct.opener == opener
            stack[-1].parts.append(_close(construct) if closed else _abandon(construct))
            if closed:
                break
    stack[-1].parts.append(text[position:])
    while len(stack) > 1:
        construct = stack.pop()
        stack[-1].parts.append(_abandon(construct))
    return "".join(stack[0].parts)


def _heading(line: str) -> tuple[int, str] | None:
    """(level, title) of a line that is a heading: between two and six `=` on both sides of at least one character."""
    line = line.rstrip()
    before, after = len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("="))
    level = min(before, after, 6, (len(line) - 1) // 2)
    return (level, line[level:-level].strip()) if level >= 2 else None


def _drop_sections(text: str) -> str:
    """Remove sections of references and links, and headings with nothing below them; mark up the others as lines."""
    sections: list[tuple[int, str, list[str]]] = [(0, "", [])]
    for line in text.split("\n"):
        heading = _heading(line)
        if heading:
            sections.append((*heading, []))
        else:
            sections[-1][2].append(line)
    kept = ["\n".join(sections[0][2])]
    dropped_level = 0  # of the section being dropped; its subsections go with it
    pending: list[tuple[int, str]] = []  # headings whose text has not come yet
    for level, title, lines in sections[1:]:
        if dropped_level and level > dropped_level:
            continue
        plain = title.strip("' ").lower()
        dropped_level = level if plain in _REFERENCE_SECTIONS else 0
        pending = [above for above in pending if above[0] < level]
        if dropped_level:
            continue
        pending.append((level, title))
        body = "\n".join(lines)
        if body.strip():
            kept += [f"\n\n{words}\n\n" for _, words in pending]
            kept.append(body)
            pending = []
    return "".join(kept)


def _literal(text: str) -> str:
    """What `<nowiki>` encloses becomes characters without meaning. Behind the last end tag nothing is enclosed."""
    end = max((match.end() for match in _NOWIKI_END.finditer(text)), default=0)
    enclosed = _NOWIKI.sub(lambda match: (match[1] or "").translate(_LITERAL), text[:end])
    return enclosed + _NOWIKI_TAG.sub("", text[end:])


def clean(text: str) -> str:
    """The prose of an article.

    Raises:
        UncleanableError: the parser cannot read the page.
    """
    text = _COMMENT.sub("", text)
    text = _drop_nested(_drop_elements(_literal(text)))
    text = _drop_sections(_TABLE_ROW.sub("", _MAGIC_WORD.sub("", text)))
    # the parser takes quadratic time on what is never closed: it gets no tags, and no link that does not end
    text = _UNCLOSED_URL.sub("", _TAG.sub("", text).replace("<", "&lt;"))
    try:
        text = str(mwparserfromhell.parse(text, skip_style_tags=True).strip_code(normalize=True, collapse=False))
    except (ParserError, RecursionError) as error:
        raise UncleanableError(str(error)) from None
    text = _QUOTES.sub("", text)
    text = _LIST_MARK.sub("", text)
    text = _EMPTY_BRACKETS.sub("", _OPEN_BRACKET.sub("(", text))
    return _BEFORE_PUNCTUATION.sub("", text)
