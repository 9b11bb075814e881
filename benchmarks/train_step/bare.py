"""The bare loop: our model's forward and backward and torch's fused AdamW, nothing else. Batches lie ready; on CPUs
glibc's allocator is told what the engine tells it.

    python -m benchmarks.train_step.bare CONFIG fp32|bf16

In bf16 the model is cast whole, gradients are added up and weights kept in fp32, as the engine does it.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from pipeline.configfile import load_config
from pipeline.encoder.model import MaskedLM
from pipeline.engine.allocator import keep_freed_memory
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.data import MicroBatch, TrainBatches
from pipeline.watching.counters import peak_memory


class Bare:
    """The model, its fp32 weights (the model's own in fp32), and their optimizer."""

    def __init__(self, config: PretrainConfig, vocab_size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.model = MaskedLM(config.model, vocab_size).to(device, dtype).train()
        self.parameters = list(self.model.parameters())
        self.cast = dtype != torch.float32
        self.masters = [p.detach().float() for p in self.parameters] if self.cast else self.parameters
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-4, betas=(0.9, 0.98), eps=1e-6, fused=True)

    def step(self, batches: list[MicroBatch]) -> Tensor:
        """One update; the sum of its losses."""
        predicted = sum(len(batch.labels) for batch in batches)
        total = torch.zeros((), device=self.masters[0].device)
        for batch in batches:
            loss = self.model(batch.input_ids, batch.sequences, batch.positions, batch.labels)
            (loss / predicted).backward()
            total += loss.detach()
            if self.cast:
                self._add_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.cast:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.masters)
        return total

    def _add_gradients(self) -> None:
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if parameter.grad is not None:
                master.grad = parameter.grad.float() if master.grad is None else master.grad.add_(parameter.grad)
                parameter.grad = None


def main(path: Path, dtype: torch.dtype) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        keep_freed_memory()
    config = load_config(PretrainConfig, path)
    batch = config.batch
    geometry = BatchGeometry(batch.train_batch_size, batch.train_micro_batch_size_per_gpu, 1)
    source = TrainBatches(config.corpus, config, geometry)
    batches = [found.to(device) for found in source[geometry.micro_indices(0, 0)]]
    bare = Bare(config, source.split.corpus.vocab_size, dtype, device)
    for layer in bare.model.layers if config.compile else []:
        layer.compile()
    for _ in range(config.schedule.total_steps):
        begin = time.perf_counter()
        bare.step(batches).item()  # waits for the device
        seconds = time.perf_counter() - begin
        print(json.dumps({"step_seconds": seconds, "peak_memory_bytes": peak_memory(device)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), {"fp32": torch.float32, "bf16": torch.bfloat16}[sys.argv[2]])
