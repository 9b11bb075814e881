"""Length of a cleaned text, in characters and in words."""

from preprocess.config import FilterConfig

Refusal = tuple[str, str]  # the rule, and what was found beside the limit


def refuse(text: str, config: FilterConfig) -> Refusal | None:
    """Why a text is too short or too long; None when it is neither."""
    if not text:
        return "empty", "nothing is left after cleaning"
    if len(text) < config.min_characters:
        return "too-short", f"{len(text)} characters, expected at least {config.min_characters}"
    if config.max_characters and len(text) > config.max_characters:
        return "too-long", f"{len(text)} characters, expected at most {config.max_characters}"
    words = len(text.split()) if config.min_words or config.max_words else 0
    if config.min_words and words < config.min_words:
        return "too-few-words", f"{words} words, expected at least {config.min_words}"
    if config.max_words and words > config.max_words:
        return "too-many-words", f"{words} words, expected at most {config.max_words}"
    return None
