"""Order + shard reading + masking + collation, beside DataCollatorForLanguageModeling, on one core.

    python -m benchmarks.loader [CORPUS]          (a synthetic corpus where none is given)

The peer gets its samples as lists in memory, already read and in order, so only its collation is timed; ours is timed
from the global index to the tensors. Both are pinned to one core and alternate; medians of the rounds.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import DataCollatorForLanguageModeling

from benchmarks.peers import samples_of, tokenizer_of
from pipeline.corpus.shards import Corpus
from pipeline.encoder.model import MaskedLM
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.data import TrainBatches
from tests.tiny import tiny_corpus

ROUNDS, STEPS, MICRO, LENGTH = 7, 64, 16, 128  # a step is 8 micro-batches


def config_for(corpus: Path) -> PretrainConfig:
    """The demo's geometry: 4 layers, hidden 256, 128 tokens, micro-batches of 16."""
    return PretrainConfig.model_validate_json(
        f"""{{
        "corpus": {str(corpus)!r}, "output": "unused", "deepspeed": "unused",
        "model": {{"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}},
        "batch": {{"train_batch_size": 128, "train_micro_batch_size_per_gpu": {MICRO}, "sequence_length": {LENGTH}}},
        "optimizer": {{"learning_rate": 1e-4}}, "schedule": {{"total_steps": 1000}}
    }}""".replace("'", '"')
    )


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main(corpus: Path) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    config = config_for(corpus)
    batches = TrainBatches(corpus, config, BatchGeometry(128, MICRO, 1))
    split = Corpus(corpus).split("train", LENGTH)
    collator = DataCollatorForLanguageModeling(tokenizer_of(split), mlm_probability=0.15)
    samples = samples_of(split, 4096)
    picks = np.random.default_rng(0).permutation(len(samples))
    examples = [{"input_ids": samples[i]} for i in picks]
    peer_batches = [examples[first : first + MICRO] for first in range(0, len(examples) - MICRO, MICRO)]

    def ours() -> None:
        for step in range(STEPS):
            for group in batches.groups(step, 0):
                batches[group]

    def counting() -> None:
        for step in range(STEPS):
            batches.predicted_tokens(step, 0)

    def peer() -> None:
        for index in range(STEPS * 8):
            collator(peer_batches[index % len(peer_batches)])

    model = MaskedLM(config.model, batches.split.corpus.vocab_size)

    def forward_and_backward() -> None:
        batch = batches[range(1)][0]
        model(batch.input_ids, batch.sequences, batch.positions, batch.labels).backward()

    sides = (ours, peer, counting, forward_and_backward)
    for side in sides:
        side()
    rounds = [[seconds(side) for side in sides] for _ in range(ROUNDS)]
    tokens = STEPS * 8 * MICRO * LENGTH
    ratio = median(theirs / mine for mine, theirs, *_ in rounds)
    share = median((mine + count) / (STEPS * 8) / step for mine, _, count, step in rounds)
    table = Table("one core", "tokens/s")
    table.add_row("ours: order, shards, masks, tensors", f"{tokens / median(r[0] for r in rounds):,.0f}")
    table.add_row("DataCollatorForLanguageModeling, from lists", f"{tokens / median(r[1] for r in rounds):,.0f}")
    table.add_row("ours: counting a step's predicted tokens ahead", f"{tokens / median(r[2] for r in rounds):,.0f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"ratio, median of {ROUNDS} pairs: {ratio:.1f} × (asked: 20)")
    console.print(
        f"loader and counting: {share:.2%} of a forward and backward pass of the 4 × 256 model (asked: under 1 %)"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(tiny_corpus(Path(folder) / "corpus", samples=4096, sequence_length=LENGTH, vocab_size=8192))
