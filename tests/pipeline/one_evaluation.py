"""One rank that scores held-out samples: `python -m tests.pipeline.one_evaluation CORPUS`; the rank 0 prints."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from pipeline.corpus.shards import Corpus
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.evaluate import HeldOut, Scores
from pipeline.pretrain_config import EvaluationConfig

CONFIG = ModelConfig(
    num_hidden_layers=1, hidden_size=24, num_attention_heads=2, intermediate_size=32, max_position_embeddings=18
)
EVALUATION = EvaluationConfig(samples=22, micro_batch_size=4, pseudo_perplexity_samples=3)


def evaluate(folder: Path, rank: int = 0, world_size: int = 1) -> Scores:
    """Six micro-batches for the loss, the last of two samples."""
    corpus = Corpus(folder)
    model = MaskedLM(CONFIG, corpus.vocab_size, seed=1)
    return HeldOut(corpus, 16, EVALUATION).scores(model, torch.device("cpu"), rank, world_size)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    scores = evaluate(Path(sys.argv[1]), dist.get_rank(), dist.get_world_size())
    if dist.get_rank() == 0:
        print(f"{scores!r}")
    dist.destroy_process_group()
