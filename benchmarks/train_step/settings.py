"""What is trained: geometries, batches, and the configuration file that every side reads."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.tiny import tiny_corpus

DTYPES = ("fp32", "bf16")


@dataclass(frozen=True)
class Setting:
    """A RoBERTa encoder with heads of 64 and an inner size of 4 D, and how a step is cut."""

    layers: int
    hidden: int
    vocabulary: int
    length: int  # tokens a sequence
    micro: int  # sequences a forward and backward pass
    accumulated: int  # of them a step
    asked: dict[str, float] = field(default_factory=dict)  # times the Trainer's tokens/s, by dtype

    @property
    def tokens(self) -> int:
        """Tokens a step."""
        return self.length * self.micro * self.accumulated

    def __str__(self) -> str:
        return (
            f"{self.layers} × {self.hidden}, vocabulary {self.vocabulary:,}, "
            f"{self.micro} × {self.length} tokens × {self.accumulated}"
        )


SETTINGS = {
    "tiny": Setting(1, 64, 512, 16, 4, 2),
    "demo": Setting(4, 256, 8192, 128, 16, 8),
    "small": Setting(4, 256, 8192, 256, 4, 8, {"fp32": 1.6, "bf16": 1.8}),
    "base": Setting(12, 768, 50_265, 128, 8, 4, {"fp32": 1.5}),
    "base-512": Setting(12, 768, 50_265, 512, 8, 1),
    "large-512": Setting(24, 1024, 50_265, 512, 32, 4),
}


def write_corpus(folder: Path, setting: Setting) -> Path:
    """Synthetic tokens, enough for a few steps."""
    return tiny_corpus(folder / "corpus", samples=1024, sequence_length=setting.length, vocab_size=setting.vocabulary)


def write_config(folder: Path, corpus: Path, setting: Setting, dtype: str, steps: int, compiled: bool = False) -> Path:
    """FOLDER/config.yaml: ZeRO 1, dropout 0.1, attention too, AdamW without clipping; one sample is evaluated."""
    folder.mkdir(parents=True)
    deepspeed = {"zero_optimization": {"stage": 1}, **({"bf16": {"enabled": True}} if dtype == "bf16" else {})}
    (folder / "deepspeed.json").write_text(json.dumps(deepspeed))
    config = {
        "corpus": str(corpus),
        "output": str(folder),
        "model": {
            "num_hidden_layers": setting.layers,
            "hidden_size": setting.hidden,
            "num_attention_heads": setting.hidden // 64,
            "intermediate_size": 4 * setting.hidden,
            "max_position_embeddings": setting.length + 2,
        },
        "batch": {
            "train_batch_size": setting.micro * setting.accumulated,
            "train_micro_batch_size_per_gpu": setting.micro,
            "sequence_length": setting.length,
        },
        "compile": compiled,
        "optimizer": {"learning_rate": 1e-4},
        "schedule": {"total_steps": steps},
        "deepspeed": str(folder / "deepspeed.json"),
        "evaluation": {"every_steps": steps + 1, "samples": 1},
        "checkpoint": {"every_steps": steps + 1},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
