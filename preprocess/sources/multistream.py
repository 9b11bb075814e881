"""Where a multistream dump may be cut, so that several tasks read one file: at bzip2 streams that begin with a page.

Wikimedia's dumps hold a hundred pages a stream. The beginnings are found by their magic bytes, so no index file is
needed, and one that does not belong to its dump can do no harm; the whole file is read for its SHA-256 anyway.
"""

import bz2
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from preprocess.sources.store import open_file

_BEGINNING = re.compile(rb"BZh[1-9]1AY&SY")  # a stream's header and its first block's: by chance once in 2⁷⁷ bytes
_LENGTH = 10
_WINDOW = 2**20
_BLOCK = 1_000_000  # compressed bytes that surely hold the first block


def ranges(path: str, bytes: int, target: int) -> list[tuple[int, int]]:
    """Byte ranges (begin, end) that cover a file of so many `bytes`, of `target` bytes and more; one range if it is not
    multistream.

    They are of about equal size: a rest of a few bytes beside a whole range would leave a worker idle.
    """
    length = bytes // max(1, bytes // target)
    cuts = [0]
    with open_file(path) as file:
        if _BEGINNING.match(file.read(_LENGTH)):
            while found := next((at for at in _beginnings(file, cuts[-1] + length) if _begins_page(file, at)), None):
                cuts.append(found)
    return list(pairwise([*cuts, bytes]))


def _beginnings(file: BinaryIO, at: int) -> Iterator[int]:
    """Where streams seem to begin, from `at` on."""
    before = b""
    while True:
        file.seek(at + len(before))
        window = before + file.read(_WINDOW)
        yield from (at + found.start() for found in _BEGINNING.finditer(window))
        if len(window) < _WINDOW:
            return
        before = window[1 - _LENGTH :]  # a beginning may lie across
        at += len(window) - len(before)


def _begins_page(file: BinaryIO, at: int) -> bool:
    """Whether a stream's text begins with a page: then the stream before it ended outside of one."""
    file.seek(at)
    try:
        return bz2.BZ2Decompressor().decompress(file.read(_BLOCK), 256).lstrip().startswith(b"<page>")
    except OSError:  # the bytes only look like a beginning, or are damaged: whoever reads over them will tell
        return False
