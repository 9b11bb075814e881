"""The table of names: each element of ours that is used stands in it once, and each tensor of theirs is made by it."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from pipeline.encoder.hugging_face import FAMILIES, family_of, table, their_config, token_type_name
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig

VOCABULARY = 29


@pytest.mark.parametrize("kind", sorted(FAMILIES), ids="-".join)
@pytest.mark.parametrize("pad", [0, 1, 7])
def test_every_element_has_one_place(kind: tuple[str, str], pad: int) -> None:
    config = ModelConfig.model_validate({
        "architecture": kind[0],
        "layer_norm": kind[1],
        "num_hidden_layers": 2,
        "hidden_size": 6,
        "num_attention_heads": 2,
        "intermediate_size": 10,
        "max_position_embeddings": 11,
    })  # fmt: skip
    parameters = dict(MaskedLM(config, VOCABULARY).named_parameters())
    settings = their_config(config, VOCABULARY, {"bos": 0, "pad": pad, "eos": 2})
    with torch.device("meta"):
        theirs = AutoModelForMaskedLM.from_config(AutoConfig.for_model(family_of(config).model_type, **settings))
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.named_parameters()}

    ours = {name: torch.zeros(parameter.shape) for name, parameter in parameters.items()}
    found = {}
    for rows in table(config, VOCABULARY, pad):
        ours[rows.ours][rows.ours_first : rows.ours_first + rows.count] += 1
        assert rows.theirs not in found
        assert rows.theirs_first + rows.count == rows.shape[0], "what is not used stands before"
        found[rows.theirs] = rows.shape
    unused = ours["embeddings.position.weight"][: config.first_position]
    assert not unused.any()
    unused += 1
    assert all((count == 1).all() for count in ours.values())
    if kind[0] == "roberta":  # its one token type is no parameter of ours
        del shapes[token_type_name(config)]
    assert found == shapes
