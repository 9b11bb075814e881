"""A copy in host memory of what a rank keeps, as the bytes of the safetensors file that is made of it.

The loop goes on while they are written, and what it changes from then on is not in them. Safetensors is an 8-byte
length, a JSON header, and the tensors' bytes in the header's order; writing them here lets them be digested on the way.
"""

import json
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pipeline.checkpoints.ranges import key_of
from pipeline.engine.engine import Fragment
from pipeline.files import BLOCK_BYTES


class Snapshot:
    """Host memory for one copy of what a rank keeps, pinned where there is a GPU. The first `take` makes it."""

    def __init__(self) -> None:
        self.header = b""
        self.values: Tensor | None = None  # fp32, all tensors laid end to end
        self.copied: torch.cuda.Event | None = None

    def take(self, fragments: Iterable[Fragment]) -> None:
        """Copy. On a GPU the host does not wait: what it computes behind this is computed behind the copy.

        Args:
            fragments: of the same lengths at every call.
        """
        kept = {
            key_of(state, fragment.name, fragment.begin): tensor
            for fragment in fragments
            for state, tensor in fragment.tensors.items()
            if len(tensor)
        }
        kept = dict(sorted(kept.items()))  # as safetensors itself does
        lengths = {key: len(tensor) for key, tensor in kept.items()}
        if self.values is None:
            on_gpu = torch.cuda.is_available()
            self.values = torch.empty(sum(lengths.values()), dtype=torch.float32, pin_memory=on_gpu)
            self.header = header(lengths)
            self.copied = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        for part, tensor in zip(self.values.split_with_sizes(list(lengths.values())), kept.values(), strict=True):
            assert tensor.dtype == torch.float32
            part.copy_(tensor, non_blocking=True)
        if self.copied is not None:
            self.copied.record()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        assert self.values is not None
        return len(self.header) + self.values.nbytes

    def blocks(self) -> Iterator[bytes | memoryview]:
        """The file's bytes in order, in blocks that are neither copied nor changed before the next `take`."""
        assert self.values is not None
        if self.copied is not None:
            self.copied.synchronize()
        yield self.header
        data = self.values.view(torch.uint8).numpy().data
        yield from (data[begin : begin + BLOCK_BYTES] for begin in range(0, len(data), BLOCK_BYTES))


def header(lengths: dict[str, int]) -> bytes:
    """The beginning of a safetensors file of one-dimensional fp32 tensors, names → numbers of elements."""
    entries, begin = {}, 0
    for name, length in lengths.items():
        end = begin + 4 * length
        entries[name] = {"dtype": "F32", "shape": [length], "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
