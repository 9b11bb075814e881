"""One spelling for the same text: Unicode normalisation form, line ends, spaces, invisible characters.

The exported tokenizer does the same with its own operations (`preprocess.tokenizer`), so that raw text given to it
becomes the ids that the corpus has; a property test holds the two together.
"""

import re
import unicodedata
from typing import Literal

from preprocess.clean.errors import UncleanableError

# Control characters, zero-width space, word joiner, byte order mark, soft hyphen: not seen, so not to be learned.
# The joiners U+200C and U+200D stay: they are orthography in Persian and in Indic scripts.
INVISIBLE = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff"
META = "\u2581"  # SentencePiece writes a space so; in a text it would be taken for one

_USUAL = bytes([ord("\n"), *range(ord(" "), 0x7F)])
_NEWLINE = re.compile(r"[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_RARE = re.compile(rf"[{INVISIBLE}\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# all of Python's white space but the plain two
_ODD_SPACE = re.compile(f"[\t\x0b-\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000{META}]")
_SPACES = re.compile("  +")  # `re` looks for two spaces several times as fast as for " {2,}"
_EMPTY_LINES = re.compile("\n\n\n+")

MOST_MARKS = 100  # one behind the other; Unicode's own Stream-Safe format has 30
_SAMPLED = MOST_MARKS // 2


def _marks() -> str:
    """All characters that Unicode's normalisation sorts behind the one before them, as a class of `re`."""
    characters = map(chr, range(0x300, 0x20000))  # behind them stand ideographs, tags and private use
    return "".join(one for one in characters if all(map(unicodedata.combining, unicodedata.normalize("NFKD", one))))


_MARKS = _marks()
_TWO_MARKS = re.compile(f"[{_MARKS}]{{2}}")
_RUN_OF_MARKS = re.compile(f"[{_MARKS}]{{{MOST_MARKS + 1}}}")


def unusual(text: str) -> str:
    """The characters of a text that are neither printable ASCII nor line ends, in their order: a few of most texts.

    To find them takes a tenth of the time of a search by `re` in the whole text.
    """
    return text.encode("utf-8", "surrogatepass").translate(None, _USUAL).decode("utf-8", "surrogatepass")


def invisible(text: str) -> int:
    """How many characters `normalise` removes as invisible."""
    return len(_INVISIBLE.findall(unusual(text)))


def _check_marks(text: str) -> None:
    """Refuse a run of combining marks that no language writes: to sort them takes quadratic time."""
    if not _TWO_MARKS.search(unusual(text)[::_SAMPLED]):  # a run that is too long has two in the sample
        return
    run = _RUN_OF_MARKS.search(text)
    if run:
        raise UncleanableError(f"over {MOST_MARKS} combining marks in a row, from character {run.start()} on")


def normalise(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """Normalised text; spaces within a line are single, lines are stripped, at most one empty line in a row.

    Raises:
        UncleanableError: more than `MOST_MARKS` combining marks in a row.
    """
    if _RARE.search(unusual(text)):
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = _INVISIBLE.sub("", _NEWLINE.sub("\n", text))
    _check_marks(text)
    text = unicodedata.normalize(form, text)
    for space in set(_ODD_SPACE.findall(unusual(text))):
        text = text.replace(space, " ")
    if "  " in text:
        text = _SPACES.sub(" ", text)
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    if "\n\n\n" in text:
        text = _EMPTY_LINES.sub("\n\n", text)
    return text.strip()
