"""Gopher's repetition rules (Rae et al. 2021, table A1): how much of a text says again what it said before?

They are made for web pages. The longer a text, the more of its short n-grams come again: many books break the rules of
5 to 10 words. Words are those of `preprocess.ngrams`, a word's characters those up to the next word.
"""

import re

import numpy as np
import numpy.typing as npt

from preprocess.config import GopherRepetitionConfig
from preprocess.filters.length import Refusal
from preprocess.ngrams import Hashes, Widths, chained, words
from preprocess.shares import over

Places = npt.NDArray[np.int64]

_PARAGRAPH = re.compile(r"\n(?:[^\S\n]*\n)+")


def _refuse_repeated(parts: list[str], what: str, most: float, most_characters: float) -> Refusal | None:
    """Lines or paragraphs: all but the first of equal ones count as duplicates."""
    parts = [part for part in map(str.strip, parts) if part]
    distinct = set(parts)
    again, whole = len(parts) - len(distinct), len(parts)
    if over(again, whole, most):
        return f"gopher-duplicate-{what}s", f"{again / whole:.1%} of {what}s are repeated, expected at most {most:.1%}"
    whole = sum(map(len, parts))
    again = whole - sum(map(len, distinct))
    if over(again, whole, most_characters):
        found = f"{again / whole:.1%} of characters are in repeated {what}s, expected at most {most_characters:.1%}"
        return f"gopher-duplicate-{what}-characters", found
    return None


def _characters(widths: Widths, places: Places, n: int) -> int:
    """How many of a text's characters are in n-grams which begin at these places, each counted once."""
    edges = np.zeros(len(widths) + 1, np.int64)
    edges[places] = 1
    edges[places + n] -= 1
    return int(widths[np.cumsum(edges[:-1]) > 0].sum())


def _equal_runs(hashes: Hashes) -> tuple[Places, Places, Places]:
    """Indices in the order of their hashes, where runs of equal ones begin in it, and how long they are."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return order, begins, np.diff(begins, append=len(order))


def _refuse_ngrams(text: str, config: GopherRepetitionConfig) -> Refusal | None:
    """For n as it grows; an n-gram that comes again begins where a shorter one did, so there are fewer and fewer."""
    hashes, widths = words(text)
    whole = int(widths.sum())
    places, ngrams = np.arange(len(hashes)), np.zeros(len(hashes), np.uint64)
    for n in range(1, max((*config.top_ngram, *config.duplicate_ngrams), default=0) + 1):
        fits = places + n <= len(hashes)
        places = places[fits]
        if not len(places):
            break
        ngrams = chained(ngrams[fits], hashes[places + n - 1])
        if n not in config.top_ngram and n not in config.duplicate_ngrams:
            continue
        order, begins, counts = _equal_runs(ngrams)
        if n in config.top_ngram and counts.max() > 1:
            top = begins[counts == counts.max()]
            first = top[np.argmin(order[top])]  # of equally frequent ones that which the text has first
            in_it = _characters(widths, places[order[first : first + counts.max()]], n)
            if over(in_it, whole, config.top_ngram[n]):
                found = f"{in_it / whole:.1%} of characters are in the most frequent {n}-gram, expected at most"
                return f"gopher-top-{n}-gram", f"{found} {config.top_ngram[n]:.1%}"
        if n in config.duplicate_ngrams:
            again = _characters(widths, places[np.delete(order, begins)], n)
            if over(again, whole, config.duplicate_ngrams[n]):
                found = f"{again / whole:.1%} of characters are in repeated {n}-grams, expected at most"
                return f"gopher-duplicate-{n}-grams", f"{found} {config.duplicate_ngrams[n]:.1%}"
        others = np.sort(order[np.repeat(counts > 1, counts)])
        places, ngrams = places[others], ngrams[others]
    return None


def refuse(text: str, config: GopherRepetitionConfig) -> Refusal | None:
    """The first rule that a text breaks: lines, paragraphs, then n-grams; None when it keeps to all."""
    lines, line_characters = config.duplicate_lines, config.duplicate_line_characters
    paragraphs, paragraph_characters = config.duplicate_paragraphs, config.duplicate_paragraph_characters
    return (
        _refuse_repeated(text.split("\n"), "line", lines, line_characters)
        or _refuse_repeated(_PARAGRAPH.split(text), "paragraph", paragraphs, paragraph_characters)
        or _refuse_ngrams(text, config)
    )
