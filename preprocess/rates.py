"""How well a tokenizer fits a text, from counts of what it made of it."""

from collections.abc import Mapping
from typing import NamedTuple


class Rates(NamedTuple):
    tokens_a_word: float  # its fertility; words are between white space, which Chinese and Japanese have none of
    characters_a_token: float
    byte_share: float  # of the tokens: bytes of characters that are no piece


def rates(encoded: Mapping[str, int], documents: int) -> Rates:
    """The rates of documents with so many `tokens`, `characters`, `words` and `byte_tokens`.

    The separator after each document is not counted among its tokens.
    """
    tokens = max(encoded["tokens"] - documents, 1)
    return Rates(tokens / max(encoded["words"], 1), encoded["characters"] / tokens, encoded["byte_tokens"] / tokens)
