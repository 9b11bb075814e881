"""Open a file that may be compressed; which way is told by its first bytes, not by its name."""

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import InputError


@contextmanager
def open_stream(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield (the decompressed stream, the raw file below it, whose `tell()` says how far it was read).

    Raises:
        InputError: damage is met while the body reads: names the file and the byte reached.
    """
    with path.open("rb") as raw:
        magic = raw.read(3)
        raw.seek(0)
        stream: BinaryIO = raw
        if magic == b"BZh":
            stream = bz2.BZ2File(raw)  # type: ignore[assignment]
        elif magic[:2] == b"\x1f\x8b":
            stream = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
        try:
            yield stream, raw
        except EOFError:
            raise InputError(f"{path}: truncated: the compressed stream is cut off at byte {raw.tell()}") from None
        except (OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the stream's
                raise
            raise InputError(f"{path}: damaged compressed stream before byte {raw.tell()}: {error}") from None
