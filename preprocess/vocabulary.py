"""What training must know of a vocabulary: its size, its special ids, and which pieces are bytes, not characters."""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders

SPECIAL_TOKENS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
SPECIAL_IDS = {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "mask": 4}  # RoBERTa's, but for the mask, which follows them

_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))  # byte-level BPE writes these as themselves


class Vocabulary(NamedTuple):
    size: int
    special_ids: dict[str, int]


def _byte_letters() -> dict[str, int]:
    """How byte-level BPE writes bytes."""
    others = [byte for byte in range(0x100) if byte not in _PRINTABLE]
    return {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


def _is_text(piece: str, letters: dict[str, int]) -> bool:
    """Are the bytes of a piece whole characters?"""
    try:
        bytes(letters[letter] for letter in piece).decode()
    except UnicodeDecodeError:
        return False
    except KeyError:  # a special token, which is not written so
        return True
    return True


def byte_ids(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Which ids are bytes that make no whole character, (V,): `<0xE4>`, or in byte-level BPE a part of one."""
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    found = np.zeros(max(pieces.values()) + 1, np.bool_)
    if isinstance(tokenizer.decoder, decoders.ByteLevel):
        letters = _byte_letters()
        found[[id for piece, id in pieces.items() if not _is_text(piece, letters)]] = True
    else:
        found[[id for piece, id in pieces.items() if _BYTE_PIECE.fullmatch(piece)]] = True
    return found
