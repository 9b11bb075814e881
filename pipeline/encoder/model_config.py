"""What a model is: its geometry and how it begins, in the terms of `transformers.RobertaConfig`. No torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.configfile import Config, Dropout, Positive

Name = Literal["roberta-base", "roberta-large", "bert-base", "bert-large"]

BASE = {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
LARGE = {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
PUBLISHED: dict[str, dict[str, Any]] = {
    "roberta-base": {"architecture": "roberta", **BASE},  # Liu et al. 2019
    "roberta-large": {"architecture": "roberta", **LARGE},
    "bert-base": {"architecture": "bert", **BASE},  # Devlin et al. 2018
    "bert-large": {"architecture": "bert", **LARGE},
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "roberta": {"max_position_embeddings": 514, "layer_norm_eps": 1e-5},
    "bert": {"max_position_embeddings": 512, "layer_norm_eps": 1e-12},
}
FIRST_POSITION = {"roberta": 2, "bert": 0}  # the row of the position embeddings that a sequence's first token takes


def named(given: dict[str, Any]) -> dict[str, Any]:
    """A model's fields with its name, if that is one, replaced by what it stands for; given fields go before."""
    name = given.get("name")
    if not isinstance(name, str) or name not in PUBLISHED:
        return given  # validation says what is wrong with it
    return {**PUBLISHED[name], **{key: value for key, value in given.items() if key != "name"}}


class StartConfig(Config):
    """A Hugging Face model to go on from. A path stands for it in a configuration, and is resolved to this."""

    folder: Path
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # of the weights' files: what decides a run, not the place


class ModelConfig(Config):
    """An encoder, in the terms of `transformers`; the vocabulary is the corpus's.

    `name` stands for a published model's fields, and a field that is given beside it goes before: both are resolved
    before anything else, so that what is stamped is the geometry and not a name.
    """

    name: Name | None = Field(default=None, exclude=True)
    architecture: Literal["roberta", "bert"] = "roberta"
    # where the norms stand: `post`, behind each sum, as published; `pre`, before each branch (exported as
    # `roberta-prelayernorm`, of `bert` as `megatron-bert`, which has one less behind the embeddings)
    layer_norm: Literal["post", "pre"] = "post"
    num_hidden_layers: Positive = 12
    hidden_size: Positive = 768
    num_attention_heads: Positive = 12
    intermediate_size: Positive = 3072
    max_position_embeddings: Positive = 514  # two more than the longest sequence; `bert`: as many, 512 unless given
    hidden_dropout_prob: Dropout = 0.1
    attention_probs_dropout_prob: Dropout = 0.1
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-5  # `bert`: 1e-12 unless given
    initializer_range: Annotated[float, Field(ge=0)] = 0.02
    init_from: StartConfig | None = None  # the folder of a Hugging Face model, whose geometry is then this one's
    # how the learned positions begin: `normal` as published; `sinusoidal` leaves the unigram plateau in a tenth of the
    # tokens where these are few, since a neighbour is then the same rotation everywhere
    position_init: Literal["normal", "sinusoidal"] = "normal"
    # how the output bias begins: `zeros` as published; `unigram` at the log frequencies of the corpus's tokens, which
    # the first hundreds of steps would otherwise learn
    output_bias_init: Literal["zeros", "unigram"] = "zeros"

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given  # the next validation says what is wrong with it
        given = named(given)
        architecture = given.get("architecture")
        defaults = DEFAULTS.get(architecture, {}) if isinstance(architecture, str) else {}
        return {**defaults, **given}

    @model_validator(mode="after")
    def _heads_divide(self) -> "ModelConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        return self

    @model_validator(mode="after")
    def _positions_begin_once(self) -> "ModelConfig":
        if self.init_from and self.position_init != "normal":
            raise ValueError(f"position_init {self.position_init} is for fresh weights; init_from brings its positions")
        return self

    def __str__(self) -> str:
        return (
            f"{self.architecture}, {self.layer_norm}-LN, {self.num_hidden_layers} × {self.hidden_size}, "
            f"{self.num_attention_heads} heads, {self.intermediate_size} inside"
        )

    @property
    def first_position(self) -> int:
        """The row of the position embeddings that a sequence's first token takes: RoBERTa does not use two."""
        return FIRST_POSITION[self.architecture]

    @property
    def embedding_norm(self) -> bool:
        """Whether a norm stands behind the embeddings: everywhere but in Megatron's pre-LN BERT."""
        return self.architecture == "roberta" or self.layer_norm == "post"
