"""A corpus made from generated text by the real pipeline, for tests that need a tokenizer too."""

import json
import random
from pathlib import Path
from typing import Any

from preprocess.config import CorpusConfig, Packing
from preprocess.run import run

SYLLABLES = ("ba", "do", "ke", "li", "mo", "nu", "pa", "ri", "so", "tu")


def text_corpus(
    folder: Path,
    vocab_size: int = 320,
    packing: Packing = "full-sentences",
    tokenizer: dict[str, Any] | None = None,
) -> Path:
    """FOLDER/corpus, packed for 32 tokens in two train shards, from sixty short documents of invented words."""
    draw = random.Random(0)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(300)]
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for number in range(60):
        sentences = (" ".join(draw.choices(words, k=draw.randint(4, 12))).capitalize() + "." for _ in range(20))
        (texts / f"{number:02d}.txt").write_text(" ".join(sentences), encoding="utf-8")
    config = {
        "output": str(folder / "corpus"),
        "sources": [{"type": "text", "paths": [str(texts / "*.txt")]}],
        "split": {"valid": 0.2},
        "tokenizer": tokenizer or {"vocab_size": vocab_size},
        "sequence_lengths": [32],
        "packing": packing,
        "shards": {"train": 2, "valid": 1},
    }
    return run(CorpusConfig.model_validate_json(json.dumps(config)))
