"""The numbers of a step's line in metrics.jsonl."""

import resource

import torch
import torch.distributed as dist

from pipeline.encoder.flops import model_flops
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.watching.peak import peak_flops


class Counters:
    """What a step moved and how fast, over all ranks. Made on every rank at once: they add up their devices' peaks.

    Args:
        dtype: of the matrix products.
    """

    def __init__(
        self, config: PretrainConfig, geometry: BatchGeometry, vocab_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.model, self.vocab_size, self.device = config.model, vocab_size, device
        self.sequences, self.length = geometry.train_batch_size, config.batch.sequence_length
        peak = torch.full((), peak_flops(device, dtype) or torch.nan, dtype=torch.float64, device=device)
        dist.all_reduce(peak)
        self.peak = None if torch.isnan(peak) else float(peak)  # FLOP/s

    def consumed(self, steps: int) -> dict[str, int]:
        """Megatron's counters after so many steps."""
        samples = steps * self.sequences
        return {"consumed_samples": samples, "consumed_tokens": samples * self.length}

    def speed(self, computed: tuple[int, int, int], seconds: float, waited: float) -> dict[str, float | int | None]:
        """Of a step that took so many seconds, of which the mean rank waited so many for data.

        Args:
            computed: tokens without padding, pairs of them that attend to each other, predicted tokens.
        """
        flops = model_flops(self.model, self.vocab_size, *computed)
        return {
            "step_seconds": seconds,
            "data_wait_seconds": waited,
            "tokens_per_second": self.sequences * self.length / seconds,
            "model_flops": flops,
            "mfu": flops / seconds / self.peak if self.peak else None,
            "peak_memory_bytes": peak_memory(self.device),
        }


def peak_memory(device: torch.device) -> int:
    """Most bytes this rank has held: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
