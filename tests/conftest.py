"""What several tests share: a quiet, small, offline process, a tiny corpus, a run's configuration, damage to files."""

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy or torch is imported; tests share the machine's few cores
os.environ["HF_HUB_OFFLINE"] = "1"
if not Path("/dev/nvidiactl").exists() and not Path("/dev/kfd").exists():
    os.environ["DS_ACCELERATOR"] = "cpu"

import hypothesis
import pytest

from tests.tiny import tiny_corpus

# The same examples in every run: a failure in CI is a failure here. No deadline: the cores may be busy.
hypothesis.settings.register_profile(
    "kilobatch",
    deadline=None,
    derandomize=True,
    max_examples=50,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("kilobatch")

PRETRAIN_YAML = """\
corpus: {corpus}
output: {output}
model:
  num_hidden_layers: 1
  hidden_size: 8
  num_attention_heads: 2
  intermediate_size: 16
  max_position_embeddings: 18
batch:
  train_batch_size: 8
  train_micro_batch_size_per_gpu: 1
  sequence_length: 16
optimizer:
  learning_rate: 1e-3
schedule:
  total_steps: 10
deepspeed: {deepspeed}
"""


def flip_byte(path: Path, position: int) -> None:
    """Change one byte of a file in place; the size stays."""
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A tiny corpus, packed for 16 tokens, that the test may damage."""
    return tiny_corpus(tmp_path / "corpus")


@pytest.fixture
def pretrain_yaml(corpus: Path, tmp_path: Path) -> Path:
    """A sound pretraining configuration on the tiny corpus, beside its DeepSpeed JSON (`deepspeed.json`)."""
    deepspeed = tmp_path / "deepspeed.json"
    deepspeed.write_text('{"zero_optimization": {"stage": 1}}')
    path = tmp_path / "pretrain.yaml"
    path.write_text(PRETRAIN_YAML.format(corpus=corpus, output=tmp_path / "run", deepspeed=deepspeed))
    return path
