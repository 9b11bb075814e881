"""Where a multistream dump may be cut, so that several tasks read one file: at bzip2 streams that begin with a page.

Wikimedia's dumps hold a hundred pages a stream. The beginnings are found by their magic bytes, so no index file is
needed, and one that does not belong to its dump can do no harm; the whole file is read for its SHA-256 anyway.
"""

import bz2
import mmap
import re
from itertools import pairwise
from pathlib import Path

_BEGINNING = re.compile(rb"BZh[1-9]1AY&SY")  # a stream's header and its first block's: by chance once in 2⁷⁷ bytes
_BLOCK = 1_000_000  # compressed bytes that surely hold the first block


def ranges(path: Path, target: int) -> list[tuple[int, int]]:
    """Byte ranges (begin, end) that cover a file, of `target` bytes and more; one range if it is not multistream.

    They are of about equal size: a rest of a few bytes beside a whole range would leave a worker idle.
    """
    size = path.stat().st_size
    length = size // max(1, size // target)
    cuts = [0]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if _BEGINNING.match(data):
            while found := next((at for at in _beginnings(data, cuts[-1] + length) if _begins_page(data, at)), None):
                cuts.append(found)
    return list(pairwise([*cuts, size]))


def _beginnings(data: mmap.mmap, at: int) -> "map[int]":
    return map(re.Match[bytes].start, _BEGINNING.finditer(data, at))


def _begins_page(data: mmap.mmap, at: int) -> bool:
    """Whether a stream's text begins with a page: then the stream before it ended outside of one."""
    try:
        return bz2.BZ2Decompressor().decompress(data[at : at + _BLOCK], 256).lstrip().startswith(b"<page>")
    except OSError:  # the bytes only look like a beginning, or are damaged: whoever reads over them will tell
        return False
