"""Text that was decoded by the wrong encoding once ("schÃ¶n"), repaired by ftfy, line by line.

ftfy decides, and only by its repair of encodings: it shall not straighten quotes, undo ligatures, or mark what is lost.
It is slow, so it sees only lines in which a letter that begins a wrongly decoded character is followed by a sign that
goes on with it: UTF-8 read as Latin-1, Windows-1252, Windows-1251 or Mac Roman.
"""

import re
from collections import Counter

import ftfy

from preprocess.clean.unicode import unusual

_BEGINS = "\u00c2-\u00f4\u0420\u0421\u0432\u221a\u201a\u00ac\u2030"
_GOES_ON = (
    "\u0080-\u00bf\u00c4\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192"  # Latin-1, Windows-1252
    "\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
    "\u0402-\u040f\u0452-\u045f\u0490\u0491\u2116"  # Windows-1251
    "\u2202-\u2265\u03a9\u03c0"  # Mac Roman
)
_SUSPECT = re.compile(f"[{_BEGINS}][{_GOES_ON}]")
_PAIRS = re.compile(f"(?=({_SUSPECT.pattern}))")
_CONFIG = ftfy.TextFixerConfig(explain=False, replace_lossy_sequences=False, fix_c1_controls=False)


def repair(text: str, removed: Counter[str]) -> str:
    """The text with its wrongly decoded lines repaired; they are counted."""
    if not any(pair in text for pair in set(_PAIRS.findall(unusual(text)))):
        return text
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if _SUSPECT.search(line):
            lines[number] = ftfy.fix_encoding(line, _CONFIG)
            removed["mojibake"] += lines[number] != line
    return "\n".join(lines)
