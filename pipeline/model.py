"""The encoder: RoBERTa or BERT (learned positions, GELU, post-LN or pre-LN), the head on predicted positions only.

The same function as `transformers`' `RobertaForMaskedLM`, `BertForMaskedLM`, `RobertaPreLayerNormForMaskedLM` and
`MegatronBertForMaskedLM` (see `pipeline.hugging_face`), laid out for speed: one projection for query, key and value,
`scaled_dot_product_attention`, and logits for N predicted tokens instead of all B·T (N ≈ 0.15 · B·T).

Shape suffixes: B batch, T tokens, D hidden, V vocabulary, H heads, N predicted tokens.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.attention import attend
from pipeline.dropout import Dropout
from pipeline.model_config import ModelConfig
from pipeline.objectives import Projection, masked_lm_loss, token_losses

Reduction = Literal["sum", "none"]

PAD_ID = 1  # RoBERTa's


class SelfAttention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_BTD: Tensor, mask_B11T: Tensor | None) -> Tensor:
        batch, length, width = hidden_BTD.shape
        dropout = self.dropout if self.training else 0.0
        qkv = self.qkv(hidden_BTD)
        if mask_B11T is None:
            context = attend(qkv.flatten(0, 1), (length,) * batch, self.heads, dropout)
            output_BTD: Tensor = self.output(context).view(hidden_BTD.shape)
            return output_BTD
        query_BHTd, key_BHTd, value_BHTd = qkv.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context_BHTd = F.scaled_dot_product_attention(query_BHTd, key_BHTd, value_BHTd, mask_B11T, dropout)
        output_BTD = self.output(context_BHTd.transpose(1, 2).reshape(batch, length, width))
        return output_BTD


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

    def forward(self, hidden_BTD: Tensor, mask_B11T: Tensor | None) -> Tensor:
        if self.norm_first:
            hidden_BTD = hidden_BTD + self.dropout(self.attention(self.attention_norm(hidden_BTD), mask_B11T))
            output_BTD: Tensor = hidden_BTD + self.dropout(self.mlp(self.mlp_norm(hidden_BTD)))
            return output_BTD
        hidden_BTD = self.attention_norm(hidden_BTD + self.dropout(self.attention(hidden_BTD, mask_B11T)))
        output_BTD = self.mlp_norm(hidden_BTD + self.dropout(self.mlp(hidden_BTD)))
        return output_BTD

    def mlp(self, hidden_BTD: Tensor) -> Tensor:
        output_BTD: Tensor = self.down(F.gelu(self.up(hidden_BTD)))
        return output_BTD


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

    def forward(self, input_ids_BT: Tensor) -> Tensor:
        # Padding stands at the end only, so counting on over it changes no token's position.
        added_TD = self.position.weight[self.first_position : self.first_position + input_ids_BT.shape[1]]
        if self.token_type is not None:
            added_TD = added_TD + self.token_type.weight[0]
        hidden_BTD: Tensor = self.dropout(self.norm(self.word(input_ids_BT) + added_TD))
        return hidden_BTD


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

    def forward(
        self,
        input_ids_BT: Tensor,
        attention_mask_BT: Tensor | None,
        positions_N: Tensor,
        labels_N: Tensor | None = None,
        reduction: Reduction = "sum",
    ) -> Tensor:
        """The loss of the predicted positions, or without labels their logits.

        Args:
            input_ids_BT: int32 or int64. attention_mask_BT: bool, True on tokens; None when nothing is padded.
            positions_N: flat indices into B·T. labels_N: int64 ids there.
            reduction: `sum`, or `none` for each token's loss, which has no gradient.

        Returns:
            Without labels (N, V) logits; else in nats and fp32 the loss, () or (N,).
        """
        mask_B11T = None if attention_mask_BT is None else attention_mask_BT[:, None, None, :]
        hidden_BTD = self.embeddings(input_ids_BT)
        for layer in self.layers:
            hidden_BTD = layer(hidden_BTD, mask_B11T)
        hidden_ND = self.norm(hidden_BTD.flatten(0, 1).index_select(0, positions_N))
        output: Tensor = self.head(hidden_ND, self.embeddings.word.weight, labels_N, reduction)
        return output
