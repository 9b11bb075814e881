"""Which cleaned documents are kept, and which of their lines. One file a family of rules.

Families are asked in the order of `FilterConfig`; a document is refused by the first rule that it breaks.
"""

from collections import Counter
from typing import NamedTuple

from preprocess.config import FilterConfig
from preprocess.filters import c4, gopher_quality, gopher_repetition, language, length
from preprocess.filters.contamination import Contamination
from preprocess.filters.length import Refusal


class Judged(NamedTuple):
    """What filters leave of a text, how many of its lines went by which rule, and why it is refused, if it is."""

    text: str
    removed: Counter[str]
    refusal: Refusal | None


def judge(text: str, source: str, config: FilterConfig, contamination: Contamination | None = None) -> Judged:
    """Take a cleaned text's bad lines out, and say whether the rest is a document of the corpus.

    Args:
        source: the name of the source that the text is of; rules may be for some sources only.
        contamination: the texts that none of the corpus may have words of, where there are any.
    """
    removed = Counter[str]()
    refusal = length.refuse(text, config)
    if not refusal and config.language and config.language.applies_to(source):
        refusal = language.refuse(text, config.language)
    if not refusal and config.c4 and config.c4.applies_to(source):
        text, removed = c4.keep_lines(text, config.c4)
        refusal = c4.refuse(text, config.c4) or length.refuse(text, config)
    quality, repetition = config.gopher_quality, config.gopher_repetition
    if not refusal and quality and quality.applies_to(source):
        refusal = gopher_quality.refuse(text, quality)
    if not refusal and repetition and repetition.applies_to(source):
        refusal = gopher_repetition.refuse(text, repetition)
    if not refusal and contamination and contamination.config.applies_to(source):
        refusal = contamination.refuse(text)
    return Judged(text, removed, refusal)
