"""`<nowiki>`: characters that mean nothing and that a reader sees.

While the other rules run, noncharacters of Unicode, which no text has, stand in their place.
"""

import re

_ELEMENT = re.compile(r"<nowiki>(.*?)</nowiki>|<nowiki\s*/>", re.S | re.I)
_END = re.compile(r"</nowiki>", re.I)
_TAG = re.compile(r"<nowiki\s*/?>", re.I)
_HIDDEN = {character: chr(0xFDD0 + number) for number, character in enumerate("{}[]<>|'*:=")}
_TABLE = str.maketrans(_HIDDEN)
_NOTHING = "\ufdef"  # what `<nowiki/>` stands between does not come together: l'<nowiki/>''Équipe''


def hide(text: str) -> str:
    """What the elements enclose becomes characters without meaning. Behind the last end tag nothing is enclosed."""
    end = max((match.end() for match in _END.finditer(text)), default=0)
    enclosed = _ELEMENT.sub(lambda match: (match[1] or "").translate(_TABLE) or _NOTHING, text[:end])
    return enclosed + _TAG.sub(_NOTHING, text[end:])


def show(text: str) -> str:
    """The characters again that `hide` has hidden."""
    for character, hidden in _HIDDEN.items():
        text = text.replace(hidden, character)
    return text.replace(_NOTHING, "")
