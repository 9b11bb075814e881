"""Held-out loss under masks that never change: a function of the weights and the corpus alone.

The masks are keyed by the corpus digest and the sample, not by a run's seed, so any two runs on a corpus compare.
"""

import numpy as np
import torch
import torch.distributed as dist

from pipeline.data import collate, masker_for
from pipeline.keyed import derive
from pipeline.model import MaskedLM
from pipeline.order import Order
from pipeline.pretrain_config import EvaluationConfig, MaskingConfig
from pipeline.shards import Corpus


class HeldOut:
    """The valid split, or a fixed choice of `config.samples` of it.

    Args:
        corpus: an open corpus. sequence_length: T. config: how much of it, and how many at once.
    """

    def __init__(self, corpus: Corpus, sequence_length: int, config: EvaluationConfig) -> None:
        self.split = corpus.split("valid", sequence_length)
        self.masker = masker_for(corpus, derive("held-out mask", corpus.digest), MaskingConfig())
        self.order = Order(len(self.split), 0, corpus.digest)
        self.samples = min(config.samples, len(self.split))
        self.micro_batch_size = config.micro_batch_size

    @torch.no_grad()
    def loss(self, model: MaskedLM, device: torch.device, rank: int = 0, world_size: int = 1) -> float:
        """Mean negative log-likelihood (nats) a predicted token, over all ranks; called on every rank."""
        was_training = model.training
        model.eval()
        total = torch.zeros(2, dtype=torch.float64, device=device)  # Σ loss, tokens
        begins = range(0, self.samples, self.micro_batch_size)
        for begin in begins[rank::world_size]:
            positions = np.arange(begin, min(begin + self.micro_batch_size, self.samples))
            samples = self.order[positions]
            (batch,) = collate(self.split, self.masker, [begin], samples, samples)
            batch = batch.to(device)
            loss = model(batch.input_ids, batch.attention_mask, batch.positions, batch.labels)
            total += torch.stack([loss.double(), total.new_tensor(len(batch.labels))])
        if world_size > 1:
            dist.all_reduce(total)
        model.train(was_training)
        return float(total[0] / total[1])
