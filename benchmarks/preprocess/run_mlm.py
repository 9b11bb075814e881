"""Peer: tokenising and grouping with `datasets.map`, as Hugging Face's run_mlm example does by default.

    python -m benchmarks.preprocess.run_mlm TOKENIZER OUTPUT FILE…

No cleaning, no duplicates removed, no split; the tokenizer is the one that ours trained.
"""

import sys
from pathlib import Path

from datasets import load_dataset
from transformers import AutoTokenizer

PROCESSES, LENGTH = 2, 512

Batch = dict[str, list[list[int]]]


def grouped(batch: Batch) -> Batch:
    """All of a batch's ids in a row, cut every LENGTH; the rest is dropped."""
    joined = {key: [id for ids in rows for id in ids] for key, rows in batch.items()}
    whole = len(joined["input_ids"]) // LENGTH * LENGTH
    return {key: [ids[at : at + LENGTH] for at in range(0, whole, LENGTH)] for key, ids in joined.items()}


def main(tokenizer_folder: str, output: str, files: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    texts = load_dataset("json", data_files=files, split="train", cache_dir=f"{output}/cache")

    def tokenised(batch: dict[str, list[str]]) -> Batch:
        return dict(tokenizer(batch["text"], return_special_tokens_mask=True))

    ids = texts.map(tokenised, batched=True, num_proc=PROCESSES, remove_columns=texts.column_names)
    ids.map(grouped, batched=True, num_proc=PROCESSES).save_to_disk(str(Path(output) / "grouped"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
