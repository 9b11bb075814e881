"""Shards → masked micro-batches on this rank: the loader is a map from a global micro-batch index to tensors (law 1).

`torch.utils.data.DataLoader` gives the worker processes; the dataset is a pure function, so their number cannot matter.
"""

import itertools
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline import leash
from pipeline.corpus.shards import Corpus, Split, open_shards
from pipeline.keyed import derive
from pipeline.pretrain_config import Documents, MaskingConfig, PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.masking import Ids, Masker
from pipeline.samples.order import Indices, Order
from pipeline.samples.sequences import Sequences

T = TypeVar("T")

READ_TOGETHER = 128  # samples: enough to share the cost of numpy's calls, few enough to stay in cache


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass reads."""

    index: int  # global micro-batch index
    samples: Indices  # (B,) positions in the split, for logs and tests
    input_ids: Tensor  # (B, T) int32, masked
    sequences: Sequences | None  # which tokens attend to each other; None: the rows, of which nothing is padded
    positions: Tensor  # (N,) int64, flat indices of the predicted tokens
    labels: Tensor  # (N,) int64

    @property
    def computed(self) -> tuple[int, int]:
        """Tokens that go through the model, and pairs of them that attend to each other; known on the host."""
        if self.sequences is None:
            rows, length = self.input_ids.shape
            return rows * length, rows * length**2
        return self.sequences.tokens, sum(length**2 for length in self.sequences.lengths)

    def to(self, device: torch.device) -> "MicroBatch":
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "MicroBatch":
        """What a DataLoader calls that pins: a copy to the GPU from there waits for nothing."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> "MicroBatch":
        sequences = None if self.sequences is None else self.sequences.each(change)
        ids, positions, labels = change(self.input_ids), change(self.positions), change(self.labels)
        return MicroBatch(self.index, self.samples, ids, sequences, positions, labels)


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


def log_frequencies(corpus: Corpus) -> Tensor:
    """Log frequency of each id, (V,), add-one smoothed, over the beginnings of the train shards: at most 2²² tokens."""
    shards = open_shards(corpus, "train")
    share = 2**22 // len(shards)
    counts = np.ones(corpus.vocab_size)
    for shard in shards:
        counts += np.bincount(shard.tokens[:share], minlength=corpus.vocab_size)
    counts[list(corpus.special_ids.values())] = 0.1  # never predicted
    return torch.from_numpy(np.log(counts / counts.sum())).float()


def collate(
    split: Split,
    masker: Masker,
    indices: Sequence[int],
    samples: Indices,
    global_index: Indices,
    documents: Documents = "together",
) -> list[MicroBatch]:
    """Read, mask and hand over micro-batches, several at once: numpy's calls cost more than a small batch's numbers.

    Args:
        indices: global micro-batch indices (C,). samples: positions in the split (C·B,).
        global_index: what the samples' masks are keyed by (C·B,).
        documents: whether those of a sample attend to each other.
    """
    ids = split.read(samples)
    masked = masker(ids, global_index)
    input_ids = ids.reshape(len(indices), -1, ids.shape[1])
    samples = samples.reshape(len(indices), -1)
    size = ids.size // len(indices)
    positions, labels = masked.positions % size, masked.labels.astype(np.int64)
    cuts = np.searchsorted(masked.positions, np.arange(len(indices) + 1) * size).tolist()
    parts = [slice(*cut) for cut in itertools.pairwise(cuts)]
    special_ids = split.corpus.special_ids
    return [
        micro_batch(index, samples[i], input_ids[i], positions[parts[i]], labels[parts[i]], special_ids, documents)
        for i, index in enumerate(indices)
    ]


def micro_batch(
    index: int,
    samples: Indices,
    input_ids_BT: Ids,
    positions_N: Indices,
    labels_N: Indices,
    special_ids: dict[str, int],
    documents: Documents = "together",
) -> MicroBatch:
    """What is masked, as tensors over the same memory. Masking never touches what pads or closes a document."""
    is_token = input_ids_BT != special_ids["pad"]
    closes = input_ids_BT == special_ids["eos"] if documents == "apart" else None
    return MicroBatch(
        index,
        samples,
        torch.from_numpy(input_ids_BT),
        None if closes is None and is_token.all() else Sequences.in_rows(is_token, closes),
        torch.from_numpy(positions_N),
        torch.from_numpy(labels_N),
    )


class TrainBatches(Dataset[list[MicroBatch]]):
    """Global micro-batch indices → micro-batches, for the whole endless run.

    Args:
        folder: of the corpus. config: seed, sequence length and masking are read. geometry: how batches are cut.
    """

    def __init__(self, folder: Path, config: PretrainConfig, geometry: BatchGeometry) -> None:
        corpus = Corpus(folder)
        self.geometry, self.documents = geometry, config.batch.documents
        self.split = corpus.split("train", config.batch.sequence_length)
        self.order = Order(len(self.split), config.seed, corpus.digest)
        self.masker = masker_for(corpus, derive("mask", config.seed, corpus.digest), config.masking)

    def __getitem__(self, indices: range) -> list[MicroBatch]:
        return collate(self.split, self.masker, indices, *self._samples(indices), self.documents)

    def _samples(self, indices: range) -> tuple[Indices, Indices]:
        """Positions in the split and global indices, both (C·B,)."""
        size = self.geometry.micro_batch_size
        samples = [self.order.run(index * size, (index + 1) * size) for index in indices]
        return np.concatenate(samples), np.concatenate([self.geometry.sample_indices(index) for index in indices])

    def groups(self, step: int, rank: int) -> Iterator[range]:
        """A rank's micro-batches of a step, as many together as are read at once."""
        mine = self.geometry.micro_indices(step, rank)
        together = max(1, READ_TOGETHER // self.geometry.micro_batch_size)
        return (mine[begin : begin + together] for begin in range(0, len(mine), together))

    def predicted_tokens(self, step: int, rank: int) -> int:
        """N of a rank's whole share of a step, counted without holding it: the loss is divided by the sum over ranks.

        Masks are pure, so counting them ahead costs a second reading instead of the memory of a whole effective batch.
        """
        count = 0
        for indices in self.groups(step, rank):
            samples, global_index = self._samples(indices)
            count += len(self.masker.choose(self.split.read(samples), global_index)[0])
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
    micro_batches: Iterator[MicroBatch]  # gradient_accumulation_steps of them, to be used up before the next step


def steps(
    batches: TrainBatches, rank: int, first: int, last: int, workers: int, *, jumps: int = 0, pin: bool = False
) -> Iterator[Step]:
    """The steps `first` … `last` − 1 of a rank, read ahead by `workers` processes (0: read when asked).

    Args:
        jumps: how far the data is ahead of the steps. pin: into page-locked memory, for a GPU.
    """
    numbers = range(first + jumps, last + jumps)
    groups = _Repeatable(lambda: (group for number in numbers for group in batches.groups(number, rank)))
    read = itertools.chain.from_iterable(_read_ahead(batches, groups, workers, pin))
    counts = iter(_read_ahead(StepCounts(batches, rank), numbers, min(workers, 1)))
    for number in range(first, last):
        yield Step(number, next(counts), itertools.islice(read, batches.geometry.gradient_accumulation_steps))


class _Repeatable:
    """An iterable over what a function yields: the endless list of groups is never held."""

    def __init__(self, make: Callable[[], Iterator[range]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[range]:
        return self.make()


def _read_ahead(dataset: Dataset[T], indices: Iterable[Any], workers: int, pin: bool = False) -> DataLoader[T]:
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        collate_fn=_same,
        prefetch_factor=2 if workers else None,
        pin_memory=pin,
        worker_init_fn=_follow_the_rank if workers else None,
    )


def _follow_the_rank(worker: int) -> None:
    """A worker ends with its rank alone: a stop signal that everything gets is the rank's to answer."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    leash.hold()


def _same(item: T) -> T:
    return item
