"""Held-out loss under masks that never change: a function of the weights and the corpus alone.

The masks are keyed by the corpus digest and the sample, not by a run's seed, so any two runs on a corpus compare. The
micro-batches are the same on any number of ranks, each token's loss is added up by sample in float64, and the samples'
sums are added exactly: the digits do not depend on how many ranks there are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.corpus.shards import Corpus
from pipeline.keyed import derive
from pipeline.pretrain_config import Documents, EvaluationConfig, MaskingConfig
from pipeline.samples.data import MicroBatch, collate, masker_for, micro_batch
from pipeline.samples.order import Indices, Order


@dataclass(frozen=True)
class Scores:
    """What a model scores on the held-out samples."""

    loss: float  # mean negative log-likelihood (nats) of a predicted token
    pseudo_perplexity: float | None = None  # None where it was not asked for

    @property
    def perplexity(self) -> float:
        return exponential(self.loss)


def exponential(value: float) -> float:
    """e to the value, infinity where it is too large for a number."""
    return math.exp(value) if value < 709 else math.inf


class HeldOut:
    """The valid split, or a fixed choice of `config.samples` of it.

    Args:
        corpus: an open corpus. sequence_length: T. config: how much of it, and how many at once.
        documents: as in training.
    """

    def __init__(
        self, corpus: Corpus, sequence_length: int, config: EvaluationConfig, documents: Documents = "together"
    ) -> None:
        self.split = corpus.split("valid", sequence_length)
        self.masker = masker_for(corpus, derive("held-out mask", corpus.digest), MaskingConfig())
        self.order = Order(len(self.split), 0, corpus.digest)
        self.samples = min(config.samples, len(self.split))
        self.pseudo_samples = min(config.pseudo_perplexity_samples, len(self.split))
        self.micro_batch_size, self.documents = config.micro_batch_size, documents

    def scores(
        self,
        model: nn.Module,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        progress: Callable[[], None] = lambda: None,
    ) -> Scores:
        """Over all ranks, and called on every one.

        Args:
            model: a `MaskedLM`, or what is called like one and gives the losses of tokens.
            progress: called before every micro-batch.
        """
        was_training = model.training
        model.eval()
        reader = _Reader(model, device, rank, world_size, progress)
        loss = reader.mean(self._masked, -(-self.samples // self.micro_batch_size), self.samples)
        pseudo = None
        if self.pseudo_samples:
            ids = self.split.read(self.order[np.arange(self.pseudo_samples)])
            rows, columns = (~self.masker.is_special[ids]).nonzero()

            def one_masked(number: int) -> tuple[MicroBatch, Indices]:
                part = slice(number * self.micro_batch_size, (number + 1) * self.micro_batch_size)
                return self._one_masked(ids, rows[part], columns[part]), rows[part]

            pseudo = reader.mean(one_masked, -(-len(rows) // self.micro_batch_size), self.pseudo_samples)
        model.train(was_training)
        return Scores(loss, None if pseudo is None else exponential(pseudo))

    def _masked(self, number: int) -> tuple[MicroBatch, Indices]:
        """One of the micro-batches of all samples, and which sample each predicted token is of."""
        begin = number * self.micro_batch_size
        positions = np.arange(begin, min(begin + self.micro_batch_size, self.samples))
        samples = self.order[positions]
        (batch,) = collate(self.split, self.masker, [number], samples, samples, self.documents)
        return batch, begin + batch.positions.numpy() // self.split.sequence_length

    def _one_masked(self, ids: npt.NDArray[np.int32], rows: Indices, columns: Indices) -> MicroBatch:
        """Copies of samples, each with one token masked, the one that is predicted (Salazar et al. 2020, section 2)."""
        copies, each = ids[rows], np.arange(len(rows))
        labels = copies[each, columns].astype(np.int64)
        copies[each, columns] = self.masker.mask_id
        positions, special_ids = each * ids.shape[1] + columns, self.split.corpus.special_ids
        return micro_batch(0, rows, copies, positions, labels, special_ids, self.documents)


@dataclass(frozen=True)
class _Reader:
    """One rank's part in passing micro-batches through a model."""

    model: nn.Module
    device: torch.device
    rank: int
    world_size: int
    progress: Callable[[], None]

    def mean(self, make: Callable[[int], tuple[MicroBatch, Indices]], count: int, samples: int) -> float:
        """Mean loss of the predicted tokens of micro-batches 0 … count − 1, dealt out among the ranks.

        Args:
            make: the micro-batch of a number, and the sample (0 … samples − 1) of each of its predicted tokens.
        """
        found: list[tuple[Tensor, Indices]] = []
        for first in range(0, count, self.world_size):
            self.progress()
            # At ZeRO stage 3 a pass gathers weights from all ranks: who has no batch left repeats the last for nothing.
            batch, owners = make(min(first + self.rank, count - 1))
            losses = self._token_losses(batch.to(self.device))
            if first + self.rank < count:
                found.append((losses, owners))
        sums = np.zeros((2, samples))  # of each sample, Σ loss and predicted tokens; zero where another rank has it
        for losses, owners in found:  # read only now, so that nothing waited for the device in between
            sums[0] += np.bincount(owners, losses.double().cpu().numpy(), samples)
            sums[1] += np.bincount(owners, minlength=samples)
        if self.world_size > 1:
            shared = torch.from_numpy(sums).to(self.device)
            dist.all_reduce(shared)
            sums = shared.cpu().numpy()
        return math.fsum(sums[0]) / tokens if (tokens := math.fsum(sums[1])) else math.nan

    @torch.no_grad()
    def _token_losses(self, batch: MicroBatch) -> Tensor:
        losses: Tensor = self.model(batch.input_ids, batch.sequences, batch.positions, batch.labels, "none")
        return losses
