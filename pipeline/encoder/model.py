"""The encoder: RoBERTa or BERT (learned positions, GELU, post-LN or pre-LN), the head on predicted positions only.

The same function as `transformers`' `RobertaForMaskedLM`, `BertForMaskedLM`, `RobertaPreLayerNormForMaskedLM` and
`MegatronBertForMaskedLM` (see `pipeline.encoder.hugging_face`), laid out for speed: one projection for query, key and
value, nothing computed for padding, and logits for N predicted tokens instead of all S (N ≈ 0.15 · S).

Shape suffixes: B rows, T tokens of a row, S tokens without padding, D hidden, V vocabulary, N predicted tokens.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.encoder.attention import attend
from pipeline.encoder.dropout import Dropout
from pipeline.encoder.model_config import ModelConfig
from pipeline.encoder.objectives import Projection, masked_lm_loss, token_losses
from pipeline.samples.sequences import Sequences

Reduction = Literal["sum", "none"]

PAD_ID = 1  # RoBERTa's


class SelfAttention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_SD: Tensor, sequences: Sequences) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        output_SD: Tensor = self.output(attend(self.qkv(hidden_SD), sequences, self.heads, dropout))
        return output_SD


class Layer(nn.Module):
    """One transformer layer: a norm behind each sum (post-LN), or before each branch (pre-LN)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_first = config.layer_norm == "pre"
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_SD: Tensor, sequences: Sequences) -> Tensor:
        if self.norm_first:
            hidden_SD = hidden_SD + self.dropout(self.attention(self.attention_norm(hidden_SD), sequences))
            output_SD: Tensor = hidden_SD + self.dropout(self.mlp(self.mlp_norm(hidden_SD)))
            return output_SD
        hidden_SD = self.attention_norm(hidden_SD + self.dropout(self.attention(hidden_SD, sequences)))
        output_SD = self.mlp_norm(hidden_SD + self.dropout(self.mlp(hidden_SD)))
        return output_SD

    def mlp(self, hidden_SD: Tensor) -> Tensor:
        output_SD: Tensor = self.down(F.gelu(self.up(hidden_SD)))
        return output_SD


class Embeddings(nn.Module):
    """Word and position embeddings, and BERT's two token types, of which masked language modelling alone uses type 0.

    Hugging Face's RoBERTa has a token type too: one row, zero in the export.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.first_position = config.first_position
        self.word = nn.Embedding(vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type = nn.Embedding(2, config.hidden_size) if config.architecture == "bert" else None
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps) if config.embedding_norm else nn.Identity()
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids_S: Tensor, places_S: Tensor) -> Tensor:
        """Hidden states (S, D) of ids that stand at these places of their sequences, counted from 0."""
        hidden_SD: Tensor = self.word(input_ids_S) + self.position(places_S + self.first_position)
        if self.token_type is not None:
            hidden_SD = hidden_SD + self.token_type.weight[0]
        hidden_SD = self.dropout(self.norm(hidden_SD))
        return hidden_SD


def sinusoids(positions: int, hidden_size: int) -> Tensor:
    """Sines and cosines of geometric wavelengths, (positions, D), in [−1, 1] (Vaswani et al. 2017, section 3.5)."""
    frequencies = 10_000.0 ** (-torch.arange(0, hidden_size, 2) / hidden_size)
    angles = torch.arange(positions)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :hidden_size]


class MaskedLMHead(nn.Module):
    """Dense, GELU, norm, then the tied word embeddings and a bias."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(
        self, hidden_ND: Tensor, word_embeddings_VD: Tensor, labels_N: Tensor | None, reduction: Reduction
    ) -> Tensor:
        hidden_ND = self.norm(F.gelu(self.dense(hidden_ND)))
        if labels_N is None:
            return F.linear(hidden_ND, word_embeddings_VD, self.bias)
        projection = Projection(word_embeddings_VD, self.bias)
        return (masked_lm_loss if reduction == "sum" else token_losses)(hidden_ND, projection, labels_N)


class MaskedLM(nn.Module):
    """RoBERTa or BERT for masked language modelling.

    Args:
        config: the geometry. vocab_size: V.
        seed: of the initial weights: normal(0, `initializer_range`), zero biases, as published.
        pad_id: of padding, whose word embedding begins at zero.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, seed: int = 0, pad_id: int = PAD_ID) -> None:
        super().__init__()
        self.embeddings = Embeddings(config, vocab_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        pre = config.layer_norm == "pre"
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps) if pre else nn.Identity()
        self.head = MaskedLMHead(config, vocab_size)
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=config.initializer_range, generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.embeddings.word.weight[pad_id].zero_()
            if config.position_init == "sinusoidal":
                self.embeddings.position.weight.copy_(sinusoids(*self.embeddings.position.weight.shape))
                self.embeddings.position.weight.mul_(config.initializer_range * math.sqrt(2))  # as far spread as normal

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile each layer in place: names of parameters stay, and so do checkpoints."""
        for layer in self.layers:
            layer.compile(
                backend=backend, dynamic=True
            )  # a micro-batch without padding has another number of tokens than the next

    def forward(
        self,
        input_ids_BT: Tensor,
        sequences: Sequences | None,
        positions_N: Tensor,
        labels_N: Tensor | None = None,
        reduction: Reduction = "sum",
    ) -> Tensor:
        """The loss of the predicted positions, or without labels their logits.

        Args:
            input_ids_BT: int32 or int64.
            sequences: which of them attend to each other; None: the rows, of which nothing is padded.
            positions_N: flat indices into B·T. labels_N: int64 ids there.
            reduction: `sum`, or `none` for each token's loss, which has no gradient.

        Returns:
            Without labels (N, V) logits; else in nats and fp32 the loss, () or (N,).
        """
        sequences = sequences or Sequences.rows(*input_ids_BT.shape).to(input_ids_BT.device)
        input_ids_S, predicted_N = sequences.pack(input_ids_BT, positions_N)
        hidden_SD = self.embeddings(input_ids_S, sequences.places())
        for layer in self.layers:
            hidden_SD = layer(hidden_SD, sequences)
        hidden_ND = self.norm(hidden_SD.index_select(0, predicted_N))
        output: Tensor = self.head(hidden_ND, self.embeddings.word.weight, labels_N, reduction)
        return output
