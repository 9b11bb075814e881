"""Time and memory of the head's last product and its loss, forward and backward: chunked beside plain.

    python -m benchmarks.head [--hidden D] [--dtype fp32|bf16] [--rounds N]

Plain is `F.cross_entropy(F.linear(…).float())`. The sides alternate; times are medians, memory is the peak above the
inputs, gradients of word embeddings included (of the process on a CPU, of the allocator on a GPU).
"""

import argparse
import ctypes
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pipeline.encoder.objectives import Projection, masked_lm_loss

TOKENS = (150, 600, 2400)
VOCABULARIES = (8192, 50_265)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def plain(hidden: Tensor, word: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, word, bias).float(), labels, reduction="sum")


def chunked(hidden: Tensor, word: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    return masked_lm_loss(hidden, Projection(word, bias), labels)


class Peak:
    """Most bytes held since it was made, above what was held then."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is given back
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak is now what is held
        self.before = self._peak()

    def _peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        assert found
        return 1024 * int(found[1])

    def bytes(self) -> int:
        return self._peak() - self.before


def measure(loss: Loss, inputs: list[Tensor], device: torch.device) -> tuple[float, int]:
    """Seconds and peak bytes of one forward and backward pass."""
    for tensor in inputs[:3]:
        tensor.grad = None
    peak, begin = Peak(device), time.perf_counter()
    loss(*inputs).backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin, peak.bytes()


def main(hidden: int, dtype: torch.dtype, rounds: int, tokens: tuple[int, ...] = TOKENS) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = Table(f"N × V, hidden {hidden}, {dtype}", "plain", "", "chunked", "", "time", "memory")
    for vocabulary in VOCABULARIES:
        for count in tokens:
            shapes = ((count, hidden), (vocabulary, hidden), (vocabulary,))
            leaves = [(0.02 * torch.randn(s, device=device)).to(dtype).requires_grad_() for s in shapes]
            inputs = [*leaves, torch.randint(0, vocabulary, (count,), device=device)]
            for side in (plain, chunked):
                measure(side, inputs, device)
            found = [[measure(side, inputs, device) for side in (plain, chunked)] for _ in range(rounds)]
            seconds = [median(pair[i][0] for pair in found) for i in range(2)]
            peaks = [median(pair[i][1] for pair in found) for i in range(2)]
            cells = [f"{s * 1e3:,.1f} ms|{p / 1e6:,.0f} MB" for s, p in zip(seconds, peaks, strict=True)]
            ratio = median(a[0] / b[0] for a, b in found)
            memory = f"{peaks[1] / peaks[0]:.2f}" if peaks[0] else ""
            table.add_row(f"{count:,} × {vocabulary:,}", *"|".join(cells).split("|"), f"{ratio:.2f} ×", memory)
    Console(highlight=False).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    main(given.hidden, DTYPES[given.dtype], given.rounds)
