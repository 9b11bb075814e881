"""Wikitext → plain text, one construct after the other, each in time that is linear in the page.

No parser of wikitext stands behind it: mwparserfromhell's `strip_code` leaves references, captions, categories and
table rows in the prose, drops the numbers in templates, is several times slower, and backtracks on hostile pages inside
C code that nothing can interrupt. `python -m benchmarks.cleaning` compares the two.
"""

import re
from collections import Counter
from typing import Literal

from preprocess.clean import elements, entities, links, nested, nowiki, sections, variants
from preprocess.records import Wiki

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)
_MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")
_TABLE_ROW = re.compile(
    r"^ *(?:\|[-+}]?|\{\||!(?=[ !]|[a-z]+=)).*$", re.M
)  # of tables that a template opened or closed
_MARKS = re.compile(r"\{\{+|\}\}+|\[\[+|\]\]+")  # that removed constructs brought together
_QUOTES = re.compile(r"''+")
_LIST_MARK = re.compile(r"^(?:[*#:;]+|-{4,})[^\S\n]*", re.M)
_EMPTY_BRACKETS = re.compile(r"\(\s*(?:[,;:–]\s*)*\)|\[\s*\]|（\s*(?:[，、；：,;]\s*)*）")
_OPEN_BRACKET = re.compile(r"([(（])(?: +|\s*(?:[,;:，、；：]\s*)+)")
_CLOSE_BRACKET = re.compile(r"(?:[,;:，、；：]\s*| )([)）])")
_BEFORE_PUNCTUATION = re.compile(r" (?=[,.)](?:\s|\Z))(?<=\w )")


def _drop(pattern: re.Pattern[str], text: str, rule: str, removed: Counter[str]) -> str:
    text, found = pattern.subn("", text)
    removed[rule] += found
    return text


def _drop_brackets(text: str, removed: Counter[str]) -> str:
    """Brackets of which removed templates left nothing, and the punctuation that they left at one side."""
    for _ in range(2):  # the second time, those that held others
        text = _drop(_EMPTY_BRACKETS, text, "empty brackets", removed)
        text = _CLOSE_BRACKET.sub(r"\1", _OPEN_BRACKET.sub(r"\1", text))
    return _BEFORE_PUNCTUATION.sub("", text)


def clean(text: str, headings: Literal["keep", "drop"], wiki: Wiki, removed: Counter[str]) -> str:
    """The prose of an article; what goes is added to `removed`, by rule.

    Raises:
        UncleanableError: constructs are nested too deep.
    """
    text = _drop(_COMMENT, text, "comments", removed)
    text = elements.drop_elements(nowiki.hide(text), removed)
    text = nested.replace(variants.choose(text), wiki, removed)
    text = _drop(_MAGIC_WORD, text, "magic words", removed)
    text = _drop(_TABLE_ROW, text, "table rows", removed)
    text = sections.drop_sections(text, headings, wiki.language, removed)
    text = _MARKS.sub("", links.external(elements.drop_tags(text, removed), removed))
    text = _LIST_MARK.sub("", _QUOTES.sub("", text))
    return nowiki.show(_drop_brackets(entities.unescape(text), removed))
