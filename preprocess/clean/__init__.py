"""From marked-up text to plain text: str → str, no Beam. `clean` picks the cleaner of a markup."""

from collections import Counter
from typing import NamedTuple

from preprocess.clean import gutenberg, markdown, mojibake, unicode, wikitext
from preprocess.config import CleanConfig
from preprocess.records import Markup, Wiki


class Cleaned(NamedTuple):
    """A plain text, and how much was removed from it by which rule."""

    text: str
    removed: Counter[str]


def clean(text: str, markup: Markup, config: CleanConfig | None = None, wiki: Wiki | None = None) -> Cleaned:
    """Plain text: one paragraph, verse, heading or list item a line, no markup.

    Raises:
        errors.UncleanableError: a page nested too deep; a run of combining marks; a book of which too little or too
            much is left.
    """
    config, removed = config or CleanConfig(), Counter[str]()
    if config.fix_encoding:  # before anything else: control characters and no-break spaces are part of what is wrong
        text = mojibake.repair(text, removed)
    removed["control characters"] = unicode.invisible(text)
    if markup == "markdown":
        text = markdown.mark_hard_breaks(text)  # normalisation would strip the spaces that mark them
    text = unicode.normalise(text, config.unicode_form)  # first, so that every cleaner sees "\n" and plain spaces only
    if markup == "wikitext":
        text = wikitext.clean(text, config.headings, wiki or Wiki(), removed)
    elif markup == "markdown":
        text = markdown.clean(text)
    elif markup == "book":
        text = gutenberg.clean(text)
    else:
        return Cleaned(text, +removed)
    # again: entities and removed markup leave characters and spaces behind
    return Cleaned(unicode.normalise(text, config.unicode_form), +removed)
