"""What a model is: its geometry and how it begins, in the terms of `transformers.RobertaConfig`. No torch."""

from typing import Literal

from pydantic import model_validator

from pipeline.configfile import Config, Positive, Share


class ModelConfig(Config):
    """A RoBERTa encoder, in the terms of `transformers.RobertaConfig`; the vocabulary is the corpus's."""

    num_hidden_layers: Positive = 12
    hidden_size: Positive = 768
    num_attention_heads: Positive = 12
    intermediate_size: Positive = 3072
    max_position_embeddings: Positive = 514  # two more than the longest sequence: RoBERTa counts positions from 2
    hidden_dropout_prob: Share = 0.1
    attention_probs_dropout_prob: Share = 0.1
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    # how the learned positions begin: `normal` as published; `sinusoidal` leaves the unigram plateau in a tenth of the
    # tokens where these are few, since a neighbour is then the same rotation everywhere
    position_init: Literal["normal", "sinusoidal"] = "normal"
    # how the output bias begins: `zeros` as published; `unigram` at the log frequencies of the corpus's tokens, which
    # the first hundreds of steps would otherwise learn
    output_bias_init: Literal["zeros", "unigram"] = "zeros"

    @model_validator(mode="after")
    def _heads_divide(self) -> "ModelConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        return self
