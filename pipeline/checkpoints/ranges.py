"""Where the elements of a checkpoint's tensors lie: one-dimensional ranges, over all its files. No torch."""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import DigestError
from pipeline.files import inside
from pipeline.tensor_file import TensorEntry, read_header

_KEY = re.compile(r"(?P<tensor>.+)/(?P<begin>0|[1-9][0-9]{0,17})")


class Range(NamedTuple):
    """Elements `begin` … `end` − 1 of a flattened tensor."""

    begin: int
    end: int
    file: str
    key: str


def key_of(state: str, name: str, begin: int) -> str:
    """What a range is called in its file."""
    return f"{state}/{name}/{begin}"


def read_ranges(folder: Path, manifest: dict[str, Any]) -> dict[str, list[Range]]:
    """`<state>/<parameter>` → its ranges, first element first. Only the files' headers are read.

    Raises:
        DigestError: a file that holds anything else, or a tensor of which an element is missing or there twice.
    """
    shapes, states = manifest["tensors"], manifest["states"]
    if shapes.keys() != states.keys():
        raise DigestError(f"{folder}: its manifest has not the same parameters in 'tensors' and 'states'")
    sizes = {
        f"{state}/{name}": math.prod(shape) for name, shape in shapes.items() for state in ("weight", *states[name])
    }
    ranges: dict[str, list[Range]] = {tensor: [] for tensor in sizes}
    for file in manifest["files"]:
        path = inside(folder, file)
        for key, entry in read_header(path)[0].items():
            match = _KEY.fullmatch(key)
            if match is None or match["tensor"] not in sizes:
                raise DigestError(f"{path}: holds {key!r}, which the manifest does not speak of")
            begin = int(match["begin"])
            ranges[match["tensor"]].append(Range(begin, begin + _length(path, key, entry), file, key))
    for tensor, found in ranges.items():
        found.sort()
        _check_whole(folder, tensor, found, sizes[tensor])
    return ranges


def _length(path: Path, key: str, entry: TensorEntry) -> int:
    if entry["dtype"] != "F32" or len(entry["shape"]) != 1:
        raise DigestError(f"{path}: {key!r} is {entry['dtype']} of shape {entry['shape']}, expected one row of F32")
    return entry["shape"][0]


def _check_whole(folder: Path, tensor: str, ranges: list[Range], size: int) -> None:
    reached = 0
    for begin, end in [*((piece.begin, piece.end) for piece in ranges), (size, size)]:
        if begin != reached:
            missing, surplus = f"elements {reached} to {begin - 1} are missing", f"element {begin} is too many"
            raise DigestError(f"{folder}: {tensor} is not whole: {missing if reached < begin else surplus}")
        reached = end
