"""With every kind of tokenizer: a corpus, a step of training, an export, and a user's text becomes the corpus's ids."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.corpus.shards import Corpus, open_shards
from tests.preprocess.test_loaded import bert
from tests.text import text_corpus


def kilobatch(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", *arguments], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["byte-bpe", "loaded"])
def test_from_text_to_an_export(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer  # here: it takes seconds

    settings: dict[str, Any] = {"type": "byte-bpe", "vocab_size": 320}
    if kind == "loaded":
        bert().save(str(tmp_path / "tokenizer.json"))
        settings = {"type": "loaded", "path": str(tmp_path / "tokenizer.json")}
    corpus = Corpus(text_corpus(tmp_path, tokenizer=settings))
    model = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    config = {
        "corpus": str(corpus.folder),
        "output": str(tmp_path / "run"),
        "model": {**model, "max_position_embeddings": 34},
        "batch": {"train_batch_size": 8, "train_micro_batch_size_per_gpu": 8, "sequence_length": 32},
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"total_steps": 1},
        "deepspeed": str(tmp_path / "zero.json"),
        "cpu_ranks": 1,
    }
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 0}}')
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(config))
    kilobatch("pretrain", str(tmp_path / "pretrain.yaml"))
    assert "logits equal" in kilobatch("export", str(tmp_path / "run"), str(tmp_path / "model"))
    exported: Any = AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    names = {name: getattr(exported, f"{name}_token_id") for name in corpus.special_ids}
    assert names == corpus.special_ids
    encoded = {
        tuple(part[:-1].tolist())
        for split in corpus.splits
        for shard in open_shards(corpus, split)
        for part in np.split(shard.tokens, shard.index["documents"][1:-1])
    }
    for path in sorted((tmp_path / "texts").iterdir())[:5]:
        ids = exported(path.read_text()).input_ids
        assert (ids[0], ids[-1]) == (corpus.special_ids["bos"], corpus.special_ids["eos"])
        assert tuple(ids[1:-1]) in encoded
    assert "pieces:" in kilobatch("corpus", "show", str(corpus.folder), "0")
