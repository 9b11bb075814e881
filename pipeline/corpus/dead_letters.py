"""A sample of the dead letters: of each rule a few, drawn by the hash of the document's id, so always the same."""

import hashlib
import json
from collections.abc import Iterable

EXAMPLES = 3


def examples(lines: Iterable[bytes]) -> dict[str, list[str]]:
    """By rule, `id: error` of the `EXAMPLES` letters whose ids have the smallest SHA-256, whatever the order.

    Args:
        lines: of `dead-letters/*.jsonl`.
    """
    drawn: dict[str, list[tuple[bytes, str]]] = {}
    for line in lines:
        letter = json.loads(line)
        shown = "".join(c if c.isprintable() else "\ufffd" for c in f"{letter['id']}: {letter['error']}")
        entry = (hashlib.sha256(letter["id"].encode("utf-8", "surrogatepass")).digest(), shown)
        drawn[letter["rule"]] = sorted([*drawn.get(letter["rule"], ()), entry])[:EXAMPLES]
    return {rule: [shown for _, shown in drawn[rule]] for rule in sorted(drawn)}
