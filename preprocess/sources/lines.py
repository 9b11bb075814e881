"""Lines of a file that is larger than memory, and may be one line."""

from collections.abc import Iterator
from io import BufferedIOBase

from pipeline.errors import InputError
from preprocess.records import DeadLetter, Unit, snippet

LONGEST = 2**28  # bytes of a text, as it is read: what is longer is not held in memory
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def lines(stream: BufferedIOBase, unit: Unit) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line), without a byte order mark; of a longer line the first `LONGEST` + 1 bytes.

    Raises:
        InputError: the file is UTF-16.
    """
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        end = line
        while len(end) > LONGEST and not end.endswith(b"\n"):
            end = stream.readline(LONGEST + 1)
        if number == 1 and line.startswith(_UTF16):
            raise InputError(f"{unit.path}: found UTF-16; expected UTF-8")
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def oversized(id: str, beginning: bytes) -> DeadLetter:
    """The dead letter of a text of which more than `LONGEST` bytes are there."""
    shown = snippet(beginning[:1000].decode("utf-8", "backslashreplace"))
    return DeadLetter(id, "read", "oversized", f"more than {LONGEST} bytes", shown)
