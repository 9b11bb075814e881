"""Shards → masked micro-batches on this rank: the loader is a map from a global micro-batch index to tensors (law 1).

`torch.utils.data.DataLoader` gives the worker processes; the dataset is a pure function, so their number cannot matter.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.batch import BatchGeometry
from pipeline.keyed import derive
from pipeline.masking import Masker
from pipeline.order import Indices, Order
from pipeline.pretrain_config import MaskingConfig, PretrainConfig
from pipeline.shards import Corpus, Split

T = TypeVar("T")


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass reads."""

    index: int  # global micro-batch index
    samples: Indices  # (B,) positions in the split, for logs and tests
    input_ids: Tensor  # (B, T) int64, masked
    attention_mask: Tensor | None  # (B, T) bool, True on tokens; None when nothing is padded
    positions: Tensor  # (N,) int64, flat indices of the predicted tokens
    labels: Tensor  # (N,) int64

    def to(self, device: torch.device) -> "MicroBatch":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        mask = None if self.attention_mask is None else move(self.attention_mask)
        return MicroBatch(self.index, self.samples, move(self.input_ids), mask, move(self.positions), move(self.labels))


def masker_for(corpus: Corpus, key: int, masking: MaskingConfig) -> Masker:
    ids = corpus.special_ids
    return Masker(
        key,
        corpus.vocab_size,
        set(ids.values()),
        ids["mask"],
        masking.mlm_probability,
        masking.mask_share,
        masking.random_share,
    )


def collate(split: Split, masker: Masker, index: int, samples: Indices, global_index: Indices) -> MicroBatch:
    """Read, mask and hand over one micro-batch: `samples` of the split under the masks of `global_index`, both (B,)."""
    ids = split.read(samples)
    masked = masker(ids, global_index)
    is_token = ids != split.corpus.special_ids["pad"]
    return MicroBatch(
        index,
        samples,
        torch.from_numpy(masked.input_ids).long(),
        None if is_token.all() else torch.from_numpy(is_token),
        torch.from_numpy(masked.positions),
        torch.from_numpy(masked.labels).long(),
    )


class TrainBatches(Dataset[MicroBatch]):
    """Global micro-batch index → micro-batch, for the whole endless run.

    Args:
        folder: of the corpus. config: seed, sequence length and masking are read. geometry: how batches are cut.
    """

    def __init__(self, folder: Path, config: PretrainConfig, geometry: BatchGeometry) -> None:
        corpus = Corpus(folder)
        self.geometry = geometry
        self.split = corpus.split("train", config.batch.sequence_length)
        self.order = Order(len(self.split), config.seed, corpus.digest)
        self.masker = masker_for(corpus, derive("mask", config.seed, corpus.digest), config.masking)

    def __getitem__(self, index: int) -> MicroBatch:
        global_index = self.geometry.sample_indices(index)
        return collate(self.split, self.masker, index, self.order[global_index], global_index)

    def predicted_tokens(self, step: int, rank: int) -> int:
        """N of a rank's whole share of a step, counted without holding it: the loss is divided by the sum over ranks.

        Masks are pure, so counting them ahead costs a second reading (under 1 % of a step) instead of the memory of
        a whole effective batch.
        """
        count = 0
        for index in self.geometry.micro_indices(step, rank):
            global_index = self.geometry.sample_indices(index)
            count += len(self.masker.choose(self.split.read(self.order[global_index]), global_index)[0])
        return count


class StepCounts(Dataset[int]):
    """Step → predicted tokens of this rank in it."""

    def __init__(self, batches: TrainBatches, rank: int) -> None:
        self.batches, self.rank = batches, rank

    def __getitem__(self, step: int) -> int:
        return self.batches.predicted_tokens(step, self.rank)


@dataclass(frozen=True)
class Step:
    """This rank's part of one optimizer step."""

    number: int
    predicted_tokens: int
    micro_batches: Iterator[MicroBatch]  # gradient_accumulation_steps of them


def steps(batches: TrainBatches, rank: int, first: int, last: int, workers: int) -> Iterator[Step]:
    """The steps `first` … `last` − 1 of a rank, read ahead by `workers` processes (0: read when asked)."""
    geometry = batches.geometry
    mine = range(first * geometry.micro_batches + rank, last * geometry.micro_batches, geometry.world_size)
    loader = iter(_read_ahead(batches, mine, workers))
    counts = iter(_read_ahead(StepCounts(batches, rank), range(first, last), min(workers, 1)))
    for step in range(first, last):
        yield Step(step, next(counts), itertools.islice(loader, geometry.gradient_accumulation_steps))


def _read_ahead(dataset: Dataset[T], indices: range, workers: int) -> DataLoader[T]:
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        collate_fn=_same,
        prefetch_factor=4 if workers else None,
    )


def _same(item: T) -> T:
    return item
