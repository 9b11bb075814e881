"""Which cleaned documents are kept. One file a family of rules; a rule refuses with (rule, what was found, the limit).

A family is asked in the order of its cost, a document is refused by the first rule that it breaks.
"""

from preprocess.config import FilterConfig
from preprocess.filters import gopher_quality, gopher_repetition, length
from preprocess.filters.length import Refusal


def refuse(text: str, source: str, config: FilterConfig) -> Refusal | None:
    """Why a cleaned text is no document of the corpus; None when it is one.

    Args:
        source: the name of the source that the text is of; rules may be for some sources only.
    """
    refusal = length.refuse(text, config)
    quality, repetition = config.gopher_quality, config.gopher_repetition
    if not refusal and quality and quality.applies_to(source):
        refusal = gopher_quality.refuse(text, quality)
    if not refusal and repetition and repetition.applies_to(source):
        refusal = gopher_repetition.refuse(text, repetition)
    return refusal
