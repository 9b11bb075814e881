"""JSON whose nesting is bounded by us: where Python's parser gives up depends on the stack that a runner has built."""

import json
import re
from typing import Any

DEEPEST = 100  # arrays and objects inside each other
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)  # "?: never a second attempt


def loads(text: str) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is none, or nested deeper than `DEEPEST`.
    """
    if text.count("[") + text.count("{") > DEEPEST:  # few texts have so many
        depth = 0
        for found in _STRING_OR_BRACKET.finditer(text):
            token = found[0]
            depth += (token in ("[", "{")) - (token in ("]", "}"))
            if depth > DEEPEST:
                raise ValueError(f"arrays and objects are nested deeper than {DEEPEST}")
    return json.loads(text)
