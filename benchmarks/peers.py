"""What the peers need: a tokenizer with the corpus's ids, and its samples as Hugging Face code wants them."""

import numpy as np
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from pipeline.corpus.shards import Split


def tokenizer_of(split: Split) -> PreTrainedTokenizerFast:
    """A fast tokenizer with the corpus's vocabulary size and special ids (the collator asks for no more)."""
    vocabulary = {f"token-{i}": i for i in range(split.corpus.vocab_size)}
    special = {name: f"token-{i}" for name, i in split.corpus.special_ids.items()}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=special["bos"],
        pad_token=special["pad"],
        eos_token=special["eos"],
        unk_token=special["unk"],
        mask_token=special["mask"],
    )


def samples_of(split: Split, count: int) -> list[list[int]]:
    """The first samples of a split as lists of ids, without padding."""
    ids = split.read(np.arange(min(count, len(split))))
    pad = split.corpus.special_ids["pad"]
    return [row[row != pad].tolist() for row in ids]
