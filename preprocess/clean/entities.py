"""Character references of HTML: `&eacute;`, `&#233;`, `&#xE9;`."""

import html
import re
from html.entities import html5

_REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|([a-zA-Z]\w{1,31}));")


def _character(match: re.Match[str]) -> str:
    name: str | None = match[1]
    known = (
        name is None or f"{name};" in html5
    )  # html.unescape takes the beginning of a name too: "&notable;" as "¬able;"
    return html.unescape(match[0]) if known else match[0]


def unescape(text: str) -> str:
    """The text with the characters that the references stand for; a name that HTML does not know stays."""
    return _REFERENCE.sub(_character, text)
