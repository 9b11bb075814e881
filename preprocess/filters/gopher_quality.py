"""Gopher's quality rules (Rae et al. 2021, A.1.1): is this English prose? A word is what stands between spaces.

They are made for web pages. A novel may have more than 100,000 words, verse and plays pass; scripts without spaces
have no such words, and no other language has the stop words.
"""

from preprocess.config import GopherQualityConfig
from preprocess.filters.length import Refusal
from preprocess.shares import over, under

_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_BULLETS = ("•", "‣", "◦", "▪", "●", "-", "*")
_ELLIPSES = ("...", "…")
_AROUND_WORDS = ".,;:!?\"'“”‘’()[]"


def _alphabetic(word: str) -> bool:
    return word.isalpha() or any(map(str.isalpha, word))


def _stop_words(words: list[str], wanted: int) -> int:
    """How many different stop words there are; looks no closer than it takes to find as many as are wanted."""
    found = _STOP_WORDS.intersection(words)
    if len(found) < wanted:
        found = _STOP_WORDS.intersection(word.strip(_AROUND_WORDS).lower() for word in words)
    return len(found)


def refuse(text: str, config: GopherQualityConfig) -> Refusal | None:
    """The first rule that a text breaks, cheap ones first; None when it keeps to all."""
    words = text.split()
    if not config.min_words <= len(words) <= config.max_words:
        return "gopher-words", f"{len(words)} words, expected {config.min_words} to {config.max_words}"
    count = max(len(words), 1)
    characters, least, most = sum(map(len, words)), config.min_mean_word_length, config.max_mean_word_length
    if under(characters, count, least) or over(characters, count, most):
        found = f"words of {characters / count:.2f} characters on average"
        return "gopher-word-length", f"{found}, expected {least:g} to {most:g}"
    for symbol, number in (("'#'", text.count("#")), ("ellipses", sum(map(text.count, _ELLIPSES)))):
        if over(number, count, config.max_symbols):
            return "gopher-symbols", f"{number / count:.3f} {symbol} a word, expected at most {config.max_symbols:g}"
    lines = [line.strip() for line in text.split("\n") if line and not line.isspace()]
    for rule, what, number, limit in (
        ("gopher-bullets", "begin with a bullet", sum(x.startswith(_BULLETS) for x in lines), config.max_bullet_lines),
        ("gopher-ellipses", "end in an ellipsis", sum(x.endswith(_ELLIPSES) for x in lines), config.max_ellipsis_lines),
    ):
        if over(number, len(lines), limit):
            return rule, f"{number / len(lines):.1%} of lines {what}, expected at most {limit:.1%}"
    stop_words = _stop_words(words, config.min_stop_words)
    if stop_words < config.min_stop_words:
        return "gopher-stop-words", f"{stop_words} of 8 English stop words, expected at least {config.min_stop_words}"
    alphabetic, limit = sum(map(_alphabetic, words)), config.min_alphabetic_words
    if under(alphabetic, count, limit):
        return "gopher-alphabetic", f"{alphabetic / count:.1%} of words have a letter, expected at least {limit:.1%}"
    return None
