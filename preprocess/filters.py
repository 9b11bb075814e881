"""Which cleaned documents are kept. A rule returns None or (rule, what was found)."""

from preprocess.config import FilterConfig

RULES = ("empty", "too-short")


def refuse(text: str, config: FilterConfig) -> tuple[str, str] | None:
    """Why a cleaned text is no document of the corpus; None when it is one."""
    if not text:
        return "empty", "nothing is left after cleaning"
    if len(text) < config.min_characters:
        return "too-short", f"{len(text)} characters, expected at least {config.min_characters}"
    return None
