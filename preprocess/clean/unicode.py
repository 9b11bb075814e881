"""One spelling for the same text: Unicode normalisation form, line ends, spaces, invisible characters.

The exported tokenizer does the same with its own operations (`preprocess.tokenizer`), so that raw text given to it
becomes the ids that the corpus has; a property test holds the two together.
"""

import re
import unicodedata
from typing import Literal

# Control characters, zero-width space, word joiner, byte order mark, soft hyphen: not seen, so not to be learned.
# The joiners U+200C and U+200D stay: they are orthography in Persian and in Indic scripts.
INVISIBLE = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff"
META = "\u2581"  # SentencePiece writes a space so; in a text it would be taken for one

_NEWLINE = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_RARE = re.compile(rf"[{INVISIBLE}\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_ODD_SPACE = re.compile(rf"[^\S\n ]|{META}")
_SPACES = re.compile(r" {2,}")
_EMPTY_LINES = re.compile(r"\n{3,}")


def invisible(text: str) -> int:
    """How many characters `normalise` removes as invisible."""
    return len(_INVISIBLE.findall(text))


def normalise(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """Normalised text; spaces within a line are single, lines are stripped, at most one empty line in a row."""
    if _RARE.search(text):  # three times as fast for text that has none, as most has
        text = _INVISIBLE.sub("", _NEWLINE.sub("\n", text))
    text = _ODD_SPACE.sub(" ", unicodedata.normalize(form, text))
    text = _SPACES.sub(" ", text).replace(" \n", "\n").replace("\n ", "\n")
    return _EMPTY_LINES.sub("\n\n", text).strip()
