"""Sentences of a text, by rule: packing cuts a sample between them.

A line end always ends a sentence. Within a line, `.`, `!`, `?` and `…` do, with the quotes and brackets that close
after them, where a space and then a capital, a digit, an opening quote or bracket follows; `。！？` need no space.
"""

import re

_END = re.compile(r"\n+|[.!?…]+[\"'”’»)\]]*(?= )|[。！？]+[」』”’）]*")
_OPENING = frozenset("\"'“‘«([—-¿¡")
_ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof st sr jr rev hon gen col capt lt sgt messrs mme mlle vs etc cf al e.g i.e vol pp fig ed
    eds trans ca approx dept est inc ltd co corp jan feb mar apr jun jul aug sep sept oct nov dec
    """.split()  # noqa: SIM905
)


def _abbreviated(text: str, end: int) -> bool:
    """Is the full stop at `end` that of an abbreviation or of an initial?"""
    begin = max(text.rfind(" ", 0, end), text.rfind("\n", 0, end)) + 1
    word = text[begin:end].lstrip("\"'“‘«([")
    return word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isupper() and word != "I")


def _ends(text: str, match: re.Match[str]) -> bool:
    mark = match[0]
    if mark[0] in "\n。！？":
        return True
    follows = text[match.end() + 1 : match.end() + 2]
    if not (follows.isupper() or follows.isdigit() or follows in _OPENING):
        return False
    return mark != "." or not _abbreviated(text, match.start())


def spans(text: str) -> list[tuple[int, int]]:
    """(begin, end) of each sentence in a normalised text, the spaces between them in none."""
    found = []
    begin = 0
    for match in _END.finditer(text):
        if _ends(text, match):
            end = match.start() if match[0][0] == "\n" else match.end()
            if end > begin:
                found.append((begin, end))
            begin = match.end() + (text[match.end() : match.end() + 1] == " ")
    if begin < len(text):
        found.append((begin, len(text)))
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a normalised text."""
    return [text[begin:end] for begin, end in spans(text)]
