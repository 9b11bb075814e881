"""C4's rules (Raffel et al. 2020, 2.2): lines that are no sentences are removed, pages with little left are refused.

They are made for English web pages: of verse, headings and list items nothing stays. Here a line may end in the full
stop of any script, and a character of a script without spaces is a word: Chinese prose stays. The list of bad words is
left out.
"""

import re
from collections import Counter

from preprocess.config import C4Config
from preprocess.filters.length import Refusal
from preprocess.ngrams import UNSPACED
from preprocess.sentences import sentences

_TERMINAL = tuple(".!?。！？؟۔।॥።။\"'”’»」』")
_ELLIPSIS = "..."
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_CITATIONS = re.compile(rf"(?: ?(?:{_CITATION.pattern}))++([^\s.,;:!?)\]’”]?)")
_BLANK_LINES = re.compile(r"\n{3,}")


def _words(line: str) -> int:
    words = len(line.split())
    return words if line.isascii() else words + len(UNSPACED.findall(line))


def _has_long_word(line: str, most: int) -> bool:
    return len(line) > most and any(len(word) > most for part in line.split() for word in UNSPACED.split(part))


def _line_rule(line: str, config: C4Config) -> str | None:
    """The rule by which a line goes."""
    if not line.endswith(_TERMINAL) or line.endswith(_ELLIPSIS):
        return "c4-line-end"
    if _words(line) < config.min_line_words:
        return "c4-line-words"
    if _has_long_word(line, config.max_word_characters):
        return "c4-long-word"
    lower = line.lower()
    if "javascript" in lower:
        return "c4-javascript"
    return "c4-policy" if any(policy in lower for policy in _POLICIES) else None


def _joined(marks: re.Match[str]) -> str:
    """What is left of citation marks and the character after them: words stay apart, by one space."""
    return f" {marks[1]}" if marks[1] and " " in marks[0] else marks[1]


def keep_lines(text: str, config: C4Config) -> tuple[str, Counter[str]]:
    """A text without the lines that break a rule and without citation marks; how many went by which rule."""
    removed = Counter[str]()
    if "[" in text:
        removed["c4-citation"] = len(_CITATION.findall(text))
        text = _CITATIONS.sub(_joined, text)
    kept = []
    for line in map(str.strip, text.split("\n")):
        rule = _line_rule(line, config) if line else None
        if rule:
            removed[rule] += 1
        else:
            kept.append(line)
    return _BLANK_LINES.sub("\n\n", "\n".join(kept)).strip("\n"), +removed


def refuse(text: str, config: C4Config) -> Refusal | None:
    """The rule by which a page of such lines is refused; None when it is kept."""
    if "{" in text:
        return "c4-curly-bracket", f"a curly bracket at character {text.index('{')}, expected none"
    at = text.lower().find("lorem ipsum")
    if at >= 0:
        return "c4-lorem-ipsum", f"“lorem ipsum” at character {at}, expected none"
    lines = text.count("\n") + 1 - text.count("\n\n") if text else 0  # each has a sentence at least
    if lines < config.min_sentences:
        found = len(sentences(text))
        if found < config.min_sentences:
            return (
                "c4-sentences",
                f"{found} sentences in the lines that are left, expected at least {config.min_sentences}",
            )
    return None
