"""Random models of `transformers`, saved as it saves them, for the tiny corpus of `tests.tiny`."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForMaskedLM

VOCABULARY = 64


def their_model(folder: Path, model_type: str = "roberta", kind: Any = AutoModelForMaskedLM, **changes: Any) -> Path:
    """A random model of transformers, nowhere trivial, saved as its own `save_pretrained` does."""
    shards = {"max_shard_size": changes.pop("max_shard_size")} if "max_shard_size" in changes else {}
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 20,
        "type_vocab_size": 2 if "bert" in model_type.split("-") else 1,
        "pad_token_id": 1,
        "layer_norm_eps": 1e-6,
        "hidden_dropout_prob": 0.25,
    }
    torch.manual_seed(3)
    model = kind.from_config(AutoConfig.for_model(model_type, **{**settings, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    model.save_pretrained(folder, **shards)
    return folder
