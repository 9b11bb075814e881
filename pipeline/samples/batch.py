"""The arithmetic of a batch: what one optimizer step is made of, and who computes which part of it.

    train_batch_size = train_micro_batch_size_per_gpu × gradient_accumulation_steps × world_size     (DeepSpeed's terms)

Step s holds the samples s·B … s·B + B − 1 of the order, cut into M = B / micro micro-batches with global indices
s·M … s·M + M − 1. Rank r computes those with index ≡ r (mod world): the batch does not change with the number of ranks.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.errors import InputError
from pipeline.samples.order import Indices


@dataclass(frozen=True)
class BatchGeometry:
    """How one effective batch is divided.

    Args:
        train_batch_size: B, sequences an optimizer step.
        micro_batch_size: sequences a forward and backward pass on one rank.
        world_size: ranks.

    Raises:
        InputError: micro × world does not divide B.
    """

    train_batch_size: int
    micro_batch_size: int
    world_size: int

    def __post_init__(self) -> None:
        together = self.micro_batch_size * self.world_size
        if self.train_batch_size % together:
            below = self.train_batch_size // together * together
            near = f"{below} or {below + together}" if below else f"{together}"
            raise InputError(
                f"batch.train_batch_size: {self.train_batch_size} is not a multiple of "
                f"train_micro_batch_size_per_gpu {self.micro_batch_size} × world size {self.world_size} = {together}; "
                f"nearest: {near}"
            )

    @property
    def gradient_accumulation_steps(self) -> int:
        return self.train_batch_size // (self.micro_batch_size * self.world_size)

    @property
    def micro_batches(self) -> int:
        """M, micro-batches a step over all ranks."""
        return self.train_batch_size // self.micro_batch_size

    def micro_indices(self, step: int, rank: int) -> range:
        """The global indices of the micro-batches that `rank` computes in `step`, in order."""
        first = step * self.micro_batches
        return range(first + rank, first + self.micro_batches, self.world_size)

    def sample_indices(self, micro_index: int) -> Indices:
        """The global sample indices (B,) of one micro-batch."""
        return np.arange(micro_index * self.micro_batch_size, (micro_index + 1) * self.micro_batch_size, dtype=np.int64)

    def __str__(self) -> str:
        return (
            f"{self.train_batch_size} sequences a step = {self.micro_batch_size} a micro-batch "
            f"× {self.gradient_accumulation_steps} accumulated × {self.world_size} rank(s)"
        )
