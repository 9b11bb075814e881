"""Where each tensor of ours stands in a Hugging Face model: one table, read both ways. No torch.

`transformers` has four models that are the same functions as ours, one for each architecture and place of the norms.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.encoder.model_config import FIRST_POSITION, ModelConfig

OURS_ALONE = {"name", "architecture", "layer_norm", "init_from", "position_init", "output_bias_init"}


@dataclass(frozen=True)
class Family:
    """One of the models of `transformers`, and what it calls the parts of ours."""

    model_type: str
    class_name: str
    prefix: str  # of the encoder's tensors, which a model without a head leaves out
    parts: dict[str, str]  # ours → theirs, below the prefix; a linear layer or a norm each
    layer_parts: dict[str, str]  # the same of one layer
    head_parts: dict[str, str]  # the same of the head, from the root
    output_bias: str


_LAYER = {"attention.output": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense"}
_POST = {**_LAYER, "attention_norm": "attention.output.LayerNorm", "mlp_norm": "output.LayerNorm"}
_EMBEDDINGS = {"embeddings.norm": "embeddings.LayerNorm"}
_ROBERTA_HEAD = {"head.dense": "lm_head.dense", "head.norm": "lm_head.layer_norm"}
_TRANSFORM = "cls.predictions.transform"
_BERT_HEAD = {"head.dense": f"{_TRANSFORM}.dense", "head.norm": f"{_TRANSFORM}.LayerNorm"}

FAMILIES = {
    ("roberta", "post"): Family(
        "roberta", "RobertaForMaskedLM", "roberta.", _EMBEDDINGS, _POST, _ROBERTA_HEAD, "lm_head.bias"
    ),
    ("roberta", "pre"): Family(
        "roberta-prelayernorm",
        "RobertaPreLayerNormForMaskedLM",
        "roberta_prelayernorm.",
        {**_EMBEDDINGS, "norm": "LayerNorm"},
        {**_LAYER, "attention_norm": "attention.LayerNorm", "mlp_norm": "intermediate.LayerNorm"},
        _ROBERTA_HEAD,
        "lm_head.bias",
    ),
    ("bert", "post"): Family(
        "bert", "BertForMaskedLM", "bert.", _EMBEDDINGS, _POST, _BERT_HEAD, "cls.predictions.bias"
    ),
    ("bert", "pre"): Family(
        "megatron-bert",
        "MegatronBertForMaskedLM",
        "bert.",
        {"norm": "encoder.ln"},
        {**_LAYER, "attention_norm": "attention.ln", "mlp_norm": "ln"},
        _BERT_HEAD,
        "cls.predictions.bias",
    ),
}


@dataclass(frozen=True)
class Rows:
    """`count` rows of a tensor of ours, from `ours_first`, that are those of a tensor of theirs from `theirs_first`.

    `shape` is of theirs; what no entry covers of a tensor is not used by either model.
    """

    ours: str
    theirs: str
    shape: tuple[int, ...]
    count: int
    ours_first: int = 0
    theirs_first: int = 0


def family_of(config: ModelConfig) -> Family:
    return FAMILIES[config.architecture, config.layer_norm]


def token_types(config: ModelConfig) -> int:
    """Rows of their token types: RoBERTa has one, which is no parameter of ours."""
    return 1 if config.architecture == "roberta" else 2


def token_type_name(config: ModelConfig) -> str:
    return f"{family_of(config).prefix}embeddings.token_type_embeddings.weight"


def positions_before(architecture: str, pad_id: int) -> int:
    """How many more rows their position embeddings have than ours: RoBERTa's count from behind the id of padding."""
    return pad_id + 1 - FIRST_POSITION[architecture] if architecture == "roberta" else 0


def table(config: ModelConfig, vocab_size: int, pad_id: int) -> Iterator[Rows]:
    """Every tensor of ours, each of its rows that is used once, beside theirs.

    Args:
        config: the geometry. vocab_size: V. pad_id: theirs, of padding.
    """
    family, width, inner = family_of(config), config.hidden_size, config.intermediate_size

    def linear_or_norm(ours: str, theirs: str) -> Iterator[Rows]:
        rows, columns = {"up": (inner, width), "down": (width, inner)}.get(ours.rpartition(".")[2], (width, width))
        shape = (rows,) if ours.endswith("norm") else (rows, columns)
        yield Rows(f"{ours}.weight", f"{theirs}.weight", shape, rows)
        yield Rows(f"{ours}.bias", f"{theirs}.bias", (rows,), rows)

    embeddings = f"{family.prefix}embeddings"
    yield Rows("embeddings.word.weight", f"{embeddings}.word_embeddings.weight", (vocab_size, width), vocab_size)
    first, before = config.first_position, positions_before(config.architecture, pad_id)
    positions = config.max_position_embeddings
    yield Rows(
        "embeddings.position.weight",
        f"{embeddings}.position_embeddings.weight",
        (positions + before, width),
        positions - first,
        first,
        first + before,
    )
    if config.architecture == "bert":
        yield Rows("embeddings.token_type.weight", token_type_name(config), (2, width), 2)
    for ours, theirs in family.parts.items():
        yield from linear_or_norm(ours, family.prefix + theirs)
    for number in range(config.num_hidden_layers):
        layer = f"{family.prefix}encoder.layer.{number}"
        for ours, theirs in family.layer_parts.items():
            yield from linear_or_norm(f"layers.{number}.{ours}", f"{layer}.{theirs}")
        for part, name in enumerate(("query", "key", "value")):
            for kind, shape in (("weight", (width, width)), ("bias", (width,))):
                ours, theirs = f"layers.{number}.attention.qkv.{kind}", f"{layer}.attention.self.{name}.{kind}"
                yield Rows(ours, theirs, shape, width, part * width)
    for ours, theirs in family.head_parts.items():
        yield from linear_or_norm(ours, theirs)
    yield Rows("head.bias", family.output_bias, (vocab_size,), vocab_size)


def their_config(config: ModelConfig, vocab_size: int, ids: dict[str, int]) -> dict[str, Any]:
    """The fields of their configuration, but for the model's type.

    Args:
        ids: of the special tokens `bos`, `pad` and `eos`.
    """
    geometry = config.model_dump(exclude=OURS_ALONE)
    geometry["max_position_embeddings"] += positions_before(config.architecture, ids["pad"])
    return {
        **geometry,
        "vocab_size": vocab_size,
        "bos_token_id": ids["bos"],
        "pad_token_id": ids["pad"],
        "eos_token_id": ids["eos"],
        "type_vocab_size": token_types(config),
        "hidden_act": "gelu",
        "tie_word_embeddings": True,
        "architectures": [family_of(config).class_name],
        "dtype": "float32",
    }
