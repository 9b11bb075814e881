"""From marked-up text to plain text: str → str, no Beam. `clean` picks the cleaner of a markup."""

from typing import Literal

from preprocess.clean import gutenberg, markdown, unicode, wikitext
from preprocess.records import Markup


def clean(text: str, markup: Markup, form: Literal["NFC", "NFKC"]) -> str:
    """Plain text: one paragraph, verse, heading or list item a line, no markup.

    Raises:
        errors.UncleanableError: wikitext that the parser gives up on; a book of which too little or too much is left.
    """
    if markup == "markdown":
        text = markdown.mark_hard_breaks(text)  # normalisation would strip the spaces that mark them
    text = unicode.normalise(text, form)  # first, so that every cleaner sees "\n" and plain spaces only
    if markup == "wikitext":
        text = wikitext.clean(text)
    elif markup == "markdown":
        text = markdown.clean(text)
    elif markup == "book":
        text = gutenberg.clean(text)
    else:
        return text
    return unicode.normalise(text, form)  # again: entities and removed markup leave characters and spaces behind
