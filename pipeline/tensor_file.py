"""What a safetensors file says it holds (u64 header length, JSON header, data), read as data alone. No torch."""

import json
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open
from typing_extensions import TypedDict

from pipeline.errors import DigestError
from pipeline.files import once


class TensorEntry(TypedDict):
    """One tensor of a header; offsets are behind the header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_header(path: Path) -> tuple[dict[str, TensorEntry], int]:
    """The tensors of a safetensors file, and where its data begins.

    Raises:
        DigestError: it is none: another format, a header that does not fit the file, arrays that overlap or leave a
            hole, a name that is given twice. Only its digest shows whether its numbers hold.
    """
    try:
        with safe_open(path, "numpy"):
            pass  # the library has compared header and size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length), object_pairs_hook=once)
    except (SafetensorError, ValueError) as error:
        raise DigestError(f"{path}: not a safetensors file: {error}") from None
    header.pop("__metadata__", None)
    return cast(dict[str, TensorEntry], header), 8 + length
