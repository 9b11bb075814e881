"""Templates of the French Wikipedia: centuries, ordinals, quotations."""

import re
from collections.abc import Callable

from preprocess.clean.parameters import Parameters

_CENTURY = re.compile(r"([ivxl]+)(er|e) (?:s|siècle)")  # names are in lower case
_ORDINAL = re.compile(r"[0-9]{1,4}(?:er|re|ère|e|es)")


def _century(p: Parameters) -> str:
    """`{{s-|XIX|e}}` as "XIXe siècle"."""
    return f"{p[1]}{p[2] or 'e'} siècle" if p[1] else ""


def _centuries(p: Parameters) -> str:
    """`{{s2|XVIII|e|XIX|e}}` as "XVIIIe et XIXe siècles"."""
    return f"{p[1]}{p[2] or 'e'} et {p[3]}{p[4] or 'e'} siècles" if p[1] and p[3] else ""


def _quotation(p: Parameters) -> str:
    """`{{citation|texte}}`; the English template of this name is a reference, and has named parameters alone."""
    text = p[1] or p["texte"]
    return f"« {text} »" if text else ""


def by_name(name: str) -> str | None:
    """What a template shows that is named for it: `{{XIXe siècle}}`, `{{1er}}`."""
    century = _CENTURY.fullmatch(name)
    if century:
        return f"{century[1].upper()}{century[2]} siècle"
    return name if _ORDINAL.fullmatch(name) else None


TEMPLATES: dict[str, Callable[[Parameters], str]] = {
    **dict.fromkeys(("s", "s-", "s mini-", "siècle"), _century),
    **dict.fromkeys(("s2", "s2-"), _centuries),
    "citation": _quotation,
    **dict.fromkeys(("n°", "numéro"), lambda p: f"n° {p[1]}"),
}
