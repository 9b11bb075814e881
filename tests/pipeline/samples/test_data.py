"""Law 1: a batch is a function of (seed, corpus, step); ranks, workers and restarts only slice it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.configfile import load_config
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.data import MicroBatch, TrainBatches, steps

BATCH, MICRO, STEPS = 16, 4, 20


def digest(batch: MicroBatch) -> str:
    """Everything of a micro-batch: ids of its samples, masked ids, positions, labels, padding."""
    hashed = hashlib.sha256(batch.samples.tobytes())
    for tensor in (batch.input_ids, batch.positions, batch.labels):
        hashed.update(tensor.numpy().tobytes())
    if batch.sequences is not None:
        hashed.update(batch.sequences.starts.numpy().tobytes())
    return hashed.hexdigest()


def read(
    corpus: Path, config: PretrainConfig, world_size: int, workers: int, first: int = 0
) -> tuple[dict[int, str], dict[int, int]]:
    """Digest of each micro-batch by its global index, and predicted tokens of each step, over all ranks of a run."""
    batches = TrainBatches(corpus, config, BatchGeometry(BATCH, MICRO, world_size))
    found: dict[int, str] = {}
    counts: dict[int, int] = dict.fromkeys(range(first, STEPS), 0)
    for rank in range(world_size):
        for step in steps(batches, rank, first, STEPS, workers):
            counts[step.number] += step.predicted_tokens
            micro_batches = list(step.micro_batches)
            assert len(micro_batches) == batches.geometry.gradient_accumulation_steps
            assert sum(len(batch.labels) for batch in micro_batches) == step.predicted_tokens
            assert not found.keys() & {batch.index for batch in micro_batches}
            found |= {batch.index: digest(batch) for batch in micro_batches}
    return found, counts


@pytest.fixture
def config(pretrain_yaml: Path) -> PretrainConfig:
    return load_config(PretrainConfig, pretrain_yaml)


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_batches_are_the_same_for_any_ranks_and_workers(
    corpus: Path, config: PretrainConfig, world_size: int, workers: int
) -> None:
    reference = read(corpus, config, 1, 0)
    assert sorted(reference[0]) == list(range(STEPS * BATCH // MICRO))
    assert read(corpus, config, world_size, workers) == reference


@pytest.mark.parametrize(
    ("workers", "begins"),
    [(0, range(1, STEPS)), (1, (1, STEPS // 2, STEPS - 1)), (4, (1, STEPS // 2, STEPS - 1))],  # a worker is a process
)
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_batches_are_the_same_after_a_resume_at_each_step(
    corpus: Path, config: PretrainConfig, world_size: int, workers: int, begins: Iterable[int]
) -> None:
    digests, counts = read(corpus, config, 1, 0)
    for first in begins:
        after = {index: value for index, value in digests.items() if index >= first * BATCH // MICRO}
        assert read(corpus, config, world_size, workers, first) == (
            after,
            {step: count for step, count in counts.items() if step >= first},
        )


def test_after_a_roll_back_the_steps_read_later_data(corpus: Path, config: PretrainConfig) -> None:
    batches = TrainBatches(corpus, config, BatchGeometry(BATCH, MICRO, 2))
    for workers in (0, 1):
        plain = steps(batches, 1, 7, 9, workers)
        ahead = steps(batches, 1, 4, 6, workers, jumps=3)
        for later, step in zip(plain, ahead, strict=True):
            assert (step.number, step.predicted_tokens) == (later.number - 3, later.predicted_tokens)
            assert [digest(batch) for batch in step.micro_batches] == [digest(batch) for batch in later.micro_batches]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory is for GPUs")
def test_batches_for_a_gpu_are_in_page_locked_memory(corpus: Path, config: PretrainConfig) -> None:
    batches = TrainBatches(corpus, config, BatchGeometry(BATCH, MICRO, 1))
    for workers in (0, 1):
        (step,) = steps(batches, 0, 0, 1, workers, pin=True)
        for batch in step.micro_batches:
            parts = [*vars(batch).values(), *(vars(batch.sequences).values() if batch.sequences else ())]
            assert all(value.is_pinned() for value in parts if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("documents", ["together", "apart"])
def test_what_is_computed_is_counted_on_the_host(corpus: Path, config: PretrainConfig, documents: str) -> None:
    batch = config.batch.model_copy(update={"documents": documents})
    batches = TrainBatches(corpus, config.model_copy(update={"batch": batch}), BatchGeometry(BATCH, MICRO, 1))
    special = batches.split.corpus.special_ids
    for one in batches[range(20)]:
        rows = [row[row != special["pad"]] for row in batches.split.read(one.samples)]
        ends = [(row == special["eos"]).nonzero()[0] + 1 if documents == "apart" else [] for row in rows]
        lengths = [len(part) for row, end in zip(rows, ends, strict=True) for part in np.split(row, end)]
        assert one.computed == (sum(lengths), sum(length**2 for length in lengths))


def test_another_seed_is_another_run_and_an_epoch_has_masks_of_its_own(corpus: Path, config: PretrainConfig) -> None:
    geometry = BatchGeometry(BATCH, MICRO, 1)
    batches = TrainBatches(corpus, config, geometry)
    other = TrainBatches(corpus, config.model_copy(update={"seed": config.seed + 1}), geometry)
    (mine,), (theirs,) = batches[range(1)], other[range(1)]
    assert digest(mine) != digest(theirs)
    epoch = len(batches.split) // MICRO * MICRO  # whole micro-batches
    seen: dict[int, list[bytes]] = {}
    for index in range(2 * len(batches.split) // MICRO):
        (batch,) = batches[range(index, index + 1)]
        for sample, row in zip(batch.samples.tolist(), batch.input_ids.numpy(), strict=True):
            seen.setdefault(sample, []).append(row.tobytes())
    twice = [rows for rows in seen.values() if len(rows) == 2]
    assert len(seen) == len(batches.split)
    assert len(twice) >= epoch - MICRO
    assert sum(first == second for first, second in twice) < epoch / 4  # short samples may have no mask twice


def test_read_alone_or_together_micro_batches_are_the_same(corpus: Path, config: PretrainConfig) -> None:
    batches = TrainBatches(corpus, config, BatchGeometry(BATCH, MICRO, 1))
    together = batches[range(3, 40, 2)]
    alone = [batches[range(index, index + 1)][0] for index in range(3, 40, 2)]
    assert [digest(batch) for batch in together] == [digest(batch) for batch in alone]
    for batch in together:
        flat = batch.input_ids.flatten().numpy()
        assert (np.diff(batch.positions.numpy()) > 0).all()
        original = flat.copy()
        original[batch.positions.numpy()] = batch.labels.numpy()
        rows = batches.split.read(batch.samples)
        assert (original.reshape(rows.shape) == rows).all()
