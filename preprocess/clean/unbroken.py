"""Text without white space: to a tokenizer a run of it is one word, which takes up to a kilobyte of memory a character.

Prose has no such runs: the longest paragraph of four Chinese classics has 4,312 characters. Encoded files have.
"""

from preprocess.clean.errors import UncleanableError


def _parted(text: str, begin: int, end: int) -> bool:
    return text.find(" ", begin, end) >= 0 or text.find("\n", begin, end) >= 0


def check(text: str, most: int) -> None:
    """
    Raises:
        UncleanableError: more than `most` characters of a cleaned text in a row are no white space.
    """
    half = most // 2 + 1  # a run that is too long has a whole such part
    if all(_parted(text, at, at + half) for at in range(0, len(text) - half + 1, half)):
        return
    longest = max(map(len, text.split()))
    if longest > most:
        raise UncleanableError(f"{longest} characters without white space, expected at most {most}", rule="unbroken")
