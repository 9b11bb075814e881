"""Files of lines, which may be compressed; plain ones are read in ranges. A line may be larger than memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from typing import BinaryIO

from pipeline.errors import InputError
from preprocess.records import DeadLetter, Unit, snippet
from preprocess.sources.compressed import is_compressed, open_stream
from preprocess.sources.store import open_file

LONGEST = 2**28  # bytes of a text, as it is read: what is longer is not held in memory
_CHUNK = 2**20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def ranges(path: str, bytes: int, target: int, may_end: Callable[[bytes], bool]) -> list[tuple[int, int, int]]:
    """(begin, end, lines before) of ranges of `target` bytes and more that cover a file of so many `bytes`; one range
    if it is compressed.

    They are of about equal size, as those of multistream dumps are.

    Args:
        may_end: whether the file may be cut behind a line.
    """
    if is_compressed(path):
        return [(0, bytes, 0)]
    length = bytes // max(1, bytes // target)
    found = []
    begin, before = 0, 0
    with open_file(path) as file:
        while begin < bytes:
            end = _cut(file, begin + length, may_end) if begin + length < bytes else bytes
            found.append((begin, end, before))
            before += _count_lines(file, begin, end) if end < bytes else 0
            begin = end
    return found


def _cut(file: BinaryIO, at: int, may_end: Callable[[bytes], bool]) -> int:
    """The end of the first whole line behind `at` where the file may be cut, or the file's."""
    file.seek(at)
    whole = False
    while line := file.readline(_CHUNK):
        ended = line.endswith(b"\n")
        if whole and ended and may_end(line):
            break
        whole = ended
    return file.tell()


def _count_lines(file: BinaryIO, begin: int, end: int) -> int:
    file.seek(begin)
    return sum(file.read(min(_CHUNK, end - at)).count(b"\n") for at in range(begin, end, _CHUNK))


@contextmanager
def open_lines(unit: Unit) -> Iterator[Iterator[tuple[int, bytes]]]:
    """Yield the lines of a unit: (number in the file from 1, line).

    They have no byte order mark. Of a line that is longer, the first `LONGEST` + 1 bytes are given.

    Raises:
        TruncatedError: a compressed file is cut off. InputError: it is damaged; or the file is UTF-16.
    """
    if unit.end - unit.begin == unit.bytes:
        with open_stream(unit.path) as (stream, _):
            yield _lines(stream, unit, None)
    else:
        with open_file(unit.path) as file:
            file.seek(unit.begin)
            yield _lines(file, unit, unit.end - unit.begin)


def _lines(stream: BufferedIOBase, unit: Unit, left: int | None) -> Iterator[tuple[int, bytes]]:
    number = unit.before
    while left != 0 and (line := stream.readline(LONGEST + 1)):
        number += 1
        read, end = len(line), line
        while len(end) > LONGEST and not end.endswith(b"\n"):
            end = stream.readline(LONGEST + 1)
            read += len(end)
        if number == 1:
            if line.startswith(_UTF16):
                raise InputError(f"{unit.path}: found UTF-16; expected UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield number, line
        left = None if left is None else left - read


def oversized(id: str, beginning: bytes) -> DeadLetter:
    """The dead letter of a text of which more than `LONGEST` bytes are there."""
    shown = snippet(beginning[:1000].decode("utf-8", "backslashreplace"))
    return DeadLetter(id, "read", "oversized", f"more than {LONGEST} bytes", shown)
