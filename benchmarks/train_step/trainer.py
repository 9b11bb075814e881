"""The peer: Hugging Face's Trainer on RobertaForMaskedLM, as run_mlm sets it up, with fused AdamW and no clipping.

python -m benchmarks.train_step.trainer CONFIG fp32|bf16
"""

import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
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
from pipeline.configfile import load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.hugging_face import their_config
from pipeline.pretrain_config import PretrainConfig
from pipeline.watching.counters import peak_memory


class Clock(TrainerCallback):
    """When each step began, and the most memory held by then."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, int]] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cuda":
            torch.cuda.synchronize()
        self.moments.append((time.perf_counter(), peak_memory(device)))


def main(path: Path, dtype: str) -> None:
    config = load_config(PretrainConfig, path)
    split = Corpus(config.corpus).split("train", config.batch.sequence_length)
    geometry = RobertaConfig(**their_config(config.model, split.corpus.vocab_size, split.corpus.special_ids))
    micro = config.batch.train_micro_batch_size_per_gpu
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=config.batch.train_batch_size // micro,
            max_steps=config.schedule.total_steps + 1,  # a step lasts until the next one begins
            use_cpu=not torch.cuda.is_available(),
            bf16=dtype == "bf16",
            torch_compile=config.compile,
            optim="adamw_torch_fused",
            max_grad_norm=0.0,
            dataloader_num_workers=config.loader_workers,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        Trainer(
            model=RobertaForMaskedLM(geometry),
            args=arguments,
            train_dataset=Dataset.from_dict({"input_ids": samples_of(split, 4096)}),
            data_collator=DataCollatorForLanguageModeling(tokenizer_of(split), mlm_probability=0.15),
            callbacks=[clock],
        ).train()
    for (before, _), (after, peak) in pairwise(clock.moments):
        print(json.dumps({"step_seconds": after - before, "peak_memory_bytes": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
