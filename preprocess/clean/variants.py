"""Text in several variants of a language: `-{zh-hans:联邦州; zh-hant:邦}-`, of which a reader sees one."""

import re

_MARKED = re.compile(r"-\{([^{}]*)\}-")
_FLAGS = re.compile(r"\s*([A-Za-z;+\-\s]*)\|")
_RULE = re.compile(r"(?:\A|;)\s*(zh(?:-[a-z]+)?|sr-[a-z]+|[a-z]{2,3}-[a-z]+)\s*:")
_HIDDEN = frozenset("HT-")  # rules for the rest of the page, for its title, and the end of a rule
_PREFERRED = ("zh-hans", "zh-cn", "zh", "zh-sg", "sr-ec")


def _shown(match: re.Match[str]) -> str:
    text: str = match[1]
    flags = _FLAGS.match(text)
    if flags:
        text = text[flags.end() :]
        if _HIDDEN & set(flags[1].upper()):
            return ""
    _, *parts = _RULE.split(text)
    if not parts:
        return text
    by_variant: dict[str, str] = dict(zip(parts[::2], (part.strip(" ;") for part in parts[1::2]), strict=True))
    preferred = next((variant for variant in _PREFERRED if variant in by_variant), parts[0])
    return by_variant[preferred]


def choose(text: str) -> str:
    """Every marked place as the reader of one variant sees it: of Chinese, the simplified."""
    return _MARKED.sub(_shown, text) if "-{" in text else text
