"""Open a file that may be compressed; which way is told by its first bytes, not by its name."""

import bz2
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa
from typing_extensions import Buffer

from pipeline.errors import InputError
from preprocess.sources.store import open_file


class TruncatedError(InputError):
    """A file ends too early: what was read of it is right, and may be kept.

    Not so with a damaged one: its checksum comes after the text that may be wrong.
    """

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.what = what


_CUT_OFF = "the compressed stream is cut off"


class _Bz2Streams(io.RawIOBase):
    """bzip2 streams, one after the other. `bz2.BZ2File` ends where the next one's beginning is damaged."""

    def __init__(self, raw: BinaryIO, end: int) -> None:
        self._raw, self._end = raw, end
        self._decompressor = bz2.BZ2Decompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Raises: EOFError: the last stream is cut off. OSError: damage, or bytes that begin no stream."""
        data = b""
        while not data:
            compressed = b""
            if self._decompressor.eof:
                compressed = self._decompressor.unused_data or self._read()
                if not compressed:
                    return 0
                self._decompressor = bz2.BZ2Decompressor()
            elif self._decompressor.needs_input:
                compressed = self._read()
                if not compressed:
                    raise EOFError(_CUT_OFF)
            data = self._decompressor.decompress(compressed, memoryview(buffer).nbytes)
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def _read(self) -> bytes:
        return self._raw.read(min(io.DEFAULT_BUFFER_SIZE, self._end - self._raw.tell()))


class _ZstdFrames(io.RawIOBase):
    """zstd frames, one after the other, by Arrow's decompressor.

    Where a frame is cut off, that loses what it has of the bytes which it is asked for. So the file is read again up to
    there, and then byte by byte.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._begin, self._given = raw, raw.tell(), 0
        self._at_once = sys.maxsize
        self._stream = self._open()

    def _open(self) -> pa.CompressedInputStream:
        return pa.CompressedInputStream(pa.PythonFile(self._raw, "r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Raises: EOFError: the last frame is cut off. OSError: damage, or bytes that begin no frame."""
        try:
            data = self._stream.read(min(self._at_once, memoryview(buffer).nbytes))
        except OSError as error:
            if not str(error).startswith("Truncated"):
                raise
            if self._at_once == 1:
                raise EOFError(_CUT_OFF) from None
            self._again()
            return self.readinto(buffer)
        memoryview(buffer)[: len(data)] = data
        self._given += len(data)
        return len(data)

    def _again(self) -> None:
        self._at_once = 1
        self._raw.seek(self._begin)
        self._lost, self._stream = self._stream, self._open()  # held, since with it the file would be closed
        left = self._given
        while left:
            left -= len(self._stream.read(min(left, io.DEFAULT_BUFFER_SIZE)))


_BZIP2, _ZSTD, _GZIP = b"BZh", b"\x28\xb5\x2f", b"\x1f\x8b"


def is_compressed(path: str) -> bool:
    """Whether `open_stream` decompresses it."""
    with open_file(path) as file:
        return file.read(3).startswith((_BZIP2, _ZSTD, _GZIP))


@contextmanager
def open_stream(path: str, begin: int = 0, end: int | None = None) -> Iterator[tuple[io.BufferedIOBase, BinaryIO]]:
    """Yield (the decompressed stream, the raw file below it, whose `tell()` says how far it was read).

    Args:
        begin, end: a range of whole bzip2 streams; only these are read.

    Raises:
        TruncatedError: the stream is cut off. InputError: it is damaged. Both name the file and the byte reached.
    """
    with open_file(path) as raw:
        raw.seek(begin)
        magic = raw.read(3)
        raw.seek(begin)
        stream: io.BufferedIOBase = raw
        if magic == _BZIP2:
            stream = io.BufferedReader(_Bz2Streams(raw, sys.maxsize if end is None else end))
        elif magic == _ZSTD:
            stream = io.BufferedReader(_ZstdFrames(raw))
        elif magic[:2] == _GZIP:
            stream = gzip.GzipFile(fileobj=raw)
        try:
            yield stream, raw
        except EOFError:
            raise TruncatedError(path, f"truncated: {_CUT_OFF} at byte {raw.tell()}") from None
        except (OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the stream's
                raise
            raise InputError(f"{path}: damaged compressed stream before byte {raw.tell()}: {error}") from None
