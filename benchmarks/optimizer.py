"""Seconds of an update, on one process: PyTorch's three AdamWs, and ours.

    python -m benchmarks.optimizer [LAYERS HIDDEN VOCABULARY]        (4 256 8192; RoBERTa-base: 12 768 50265)

Once on whole parameters, as ZeRO 0 hands them to an optimizer, and for AdamW once on two flat tensors, as stages 1 to
3 do. AdamWs take turns; medians of the rounds. Muon orthogonalises every matrix here; under ZeRO ranks share them.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.engine.lamb import Lamb
from pipeline.engine.muon import Muon
from pipeline.engine.optim_config import LambConfig, MuonConfig

ROUNDS = 7
RATE = 1e-4
Build = Callable[[], torch.optim.Optimizer]


def adamws(tensors: list[Tensor]) -> dict[str, Build]:
    """The same update by each of PyTorch's implementations."""
    options = {"for loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    return {
        name: lambda option=option: torch.optim.AdamW(tensors, RATE, (0.9, 0.98), 1e-6, **option)
        for name, option in options.items()
    }


def seconds(builds: dict[str, Build]) -> dict[str, float]:
    """Median seconds of a step of each, taking turns."""
    optimizers = {name: build() for name, build in builds.items()}
    found: dict[str, list[float]] = {name: [] for name in builds}
    for _ in range(ROUNDS + 1):
        for name, optimizer in optimizers.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            begin = time.perf_counter()
            optimizer.step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            found[name].append(time.perf_counter() - begin)
    return {name: median(times[1:]) for name, times in found.items()}  # the first makes the states


def main(layers: int, hidden: int, vocab_size: int) -> None:
    config = ModelConfig(
        num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=1, intermediate_size=4 * hidden
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = MaskedLM(config, vocab_size).to(device)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 1e-3
    with torch.no_grad():
        flats: list[Tensor] = [
            torch.cat([p.flatten() for p in parameters if (p.ndim >= 2) == matrices]) for matrices in (True, False)
        ]
    for flat in flats:
        flat.grad = torch.randn_like(flat) * 1e-3
    ours: dict[str, Build] = {
        "LAMB": lambda: Lamb(model, LambConfig(learning_rate=RATE)),
        "Muon": lambda: Muon(model, MuonConfig(learning_rate=RATE)),
    }
    if device.type == "cuda":  # a CPU may have no products in bf16 and take seconds for one
        bf16 = MuonConfig(learning_rate=RATE, newton_schulz_dtype="bf16")
        ours["Muon, bf16"] = lambda: Muon(model, bf16)
    numel = sum(parameter.numel() for parameter in parameters)
    threads = torch.get_num_threads()
    table = Table("update", "tensors", "ms", title=f"{numel:,} parameters, {device.type}, {threads} thread(s)")
    for tensors in (parameters, flats):
        for name, median_seconds in seconds(adamws(tensors)).items():
            table.add_row(f"AdamW, {name}", f"{len(tensors)}", f"{1000 * median_seconds:.1f}")
    for name, build in ours.items():
        table.add_row(name, f"{len(parameters)}", f"{1000 * seconds({name: build})[name]:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or ("4", "256", "8192")))
