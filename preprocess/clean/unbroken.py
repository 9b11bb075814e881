"""Text without white space: to a tokenizer a run of it is one word, which takes up to a kilobyte of memory a character.

Prose has no such runs: the longest paragraph of four Chinese classics has 4,312 characters. Encoded files have.
"""

from preprocess.clean.errors import UncleanableError


def check(text: str, most: int) -> None:
    """
    Raises:
        UncleanableError: more than `most` characters of a cleaned text in a row are no white space.
    """
    if len(text) <= most:
        return
    longest = max(map(len, text.split()))
    if longest > most:
        raise UncleanableError(f"{longest} characters without white space, expected at most {most}", rule="unbroken")
