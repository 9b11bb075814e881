"""Tokens a second of our training step beside the Hugging Face Trainer on RobertaForMaskedLM.

    python -m benchmarks.train_step [CORPUS]          (a synthetic corpus where none is given)

The same geometry (4 layers, hidden 256, 128 tokens, micro-batches of 16, 8 accumulated), dropout rates (0.1, attention
too), fp32 and number of threads. Each side is a process of its own, from the shards to the updated weights: ours
through DeepSpeed ZeRO 1, its loader and its logging; theirs as run_mlm sets the Trainer up, with fused AdamW and no
clipping. The processes alternate; a process gives the median of its steps after two for warming up.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.loader import LENGTH, MICRO, config_for
from tests.tiny import tiny_corpus

ROUNDS, WARM_UP, STEPS = 3, 2, 5
ACCUMULATED = 8


def ours(corpus: Path) -> list[float]:
    """Seconds of each step of our trainer, one rank."""
    os.environ |= {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29631",
    }
    from pipeline.data import steps
    from pipeline.engine import start_processes
    from pipeline.train import Trainer

    device = start_processes()
    settings = corpus.parent / "zero1.json"
    settings.write_text('{"zero_optimization": {"stage": 1}}')
    trainer = Trainer(config_for(corpus).model_copy(update={"deepspeed": settings}), device)
    trainer.engine.model.train()
    seconds, begin = [], time.perf_counter()
    for step in steps(trainer.batches, 0, 0, WARM_UP + STEPS, workers=1):
        trainer.train_step(step)
        now = time.perf_counter()
        seconds.append(now - begin)
        begin = now
    return seconds[WARM_UP:]


def theirs(corpus: Path) -> list[float]:
    """Seconds of each step of the Trainer."""
    from typing import Any

    from datasets import Dataset
    from transformers import (
        DataCollatorForLanguageModeling,
        RobertaConfig,
        RobertaForMaskedLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from benchmarks.peers import samples_of, tokenizer_of
    from pipeline.shards import Corpus

    split = Corpus(corpus).split("train", LENGTH)
    geometry = config_for(corpus).model.model_dump()
    moments: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=MICRO,
            gradient_accumulation_steps=ACCUMULATED,
            max_steps=WARM_UP + STEPS + 1,  # a step lasts until the next one begins
            optim="adamw_torch_fused",
            max_grad_norm=0.0,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        Trainer(
            model=RobertaForMaskedLM(RobertaConfig(vocab_size=split.corpus.vocab_size, type_vocab_size=1, **geometry)),
            args=arguments,
            train_dataset=Dataset.from_dict({"input_ids": samples_of(split, 4096)}),
            data_collator=DataCollatorForLanguageModeling(tokenizer_of(split), mlm_probability=0.15),
            callbacks=[Clock()],
        ).train()
    return [after - before for before, after in pairwise(moments)][WARM_UP:]


def measure(side: str, corpus: Path) -> float:
    """Tokens a second of one side, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.train_step", side, str(corpus)]
    threads = str(len(os.sched_getaffinity(0)))
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return MICRO * ACCUMULATED * LENGTH / median(json.loads(done.stdout.splitlines()[-1]))


def main(corpus: Path) -> None:
    rounds = [(measure("ours", corpus), measure("theirs", corpus)) for _ in range(ROUNDS)]
    table = Table("fp32, 4 × 256, 128 tokens, 16 × 8", "tokens/s")
    table.add_row("Kilobatch, ZeRO 1", f"{median(r[0] for r in rounds):,.0f}")
    table.add_row("Trainer, RobertaForMaskedLM", f"{median(r[1] for r in rounds):,.0f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"ratio, median of {ROUNDS} pairs: {median(a / b for a, b in rounds):.2f} × (asked: 1.5)")


if __name__ == "__main__":
    if sys.argv[1:2] in (["ours"], ["theirs"]):
        print(json.dumps({"ours": ours, "theirs": theirs}[sys.argv[1]](Path(sys.argv[2]))))
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(tiny_corpus(Path(folder) / "corpus", samples=4096, sequence_length=LENGTH, vocab_size=8192))
