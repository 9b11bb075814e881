"""The model is the function of `transformers`' four, on predicted positions only."""

import pytest
import torch
from transformers import PreTrainedModel

from pipeline.encoder.hugging_face import FAMILIES
from pipeline.encoder.model import PAD_ID, MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.export import build
from pipeline.samples.sequences import Sequences

VOCABULARY, BATCH, TOKENS = 97, 3, 12
IDS = {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "mask": 4}


def geometry(architecture: str = "roberta", layer_norm: str = "post") -> ModelConfig:
    return ModelConfig.model_validate({
        "architecture": architecture,
        "layer_norm": layer_norm,
        "num_hidden_layers": 2,
        "hidden_size": 24,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "max_position_embeddings": TOKENS + 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.2,
    })  # fmt: skip


CONFIG = geometry()


def rows(mask: torch.Tensor) -> Sequences:
    return Sequences.in_rows(mask.numpy())


def nowhere_trivial(config: ModelConfig) -> MaskedLM:
    """A model without a zero among its biases or a one among its scales."""
    model = MaskedLM(config, VOCABULARY, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


@pytest.fixture(params=sorted(FAMILIES), ids="-".join)
def models(request: pytest.FixtureRequest) -> tuple[MaskedLM, PreTrainedModel]:
    """Ours, of each architecture with each place of the norms, and theirs with the same weights."""
    ours = nowhere_trivial(geometry(*request.param))
    return ours, build(ours, geometry(*request.param), IDS)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids (B, T) with padding at the ends, their mask, and positions (N,) on tokens."""
    ids = torch.randint(5, VOCABULARY, (BATCH, TOKENS), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate((TOKENS, 7, 4)):
        ids[row, length:] = PAD_ID
    mask = ids != PAD_ID
    return ids, mask, mask.flatten().nonzero().squeeze(1)[::2]


def test_logits_and_gradients_are_those_of_hugging_face(
    models: tuple[MaskedLM, PreTrainedModel], batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    (ours, theirs), (ids, mask, positions) = models, batch
    logits = ours(ids, rows(mask), positions)
    expected = theirs(input_ids=ids, attention_mask=mask.long()).logits.flatten(0, 1)[positions]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    labels = torch.arange(len(positions)) % VOCABULARY
    ours(ids, rows(mask), positions, labels).backward()
    torch.nn.functional.cross_entropy(expected, labels, reduction="sum").backward()
    word = theirs.get_input_embeddings().weight.grad
    (query,) = (p.grad for name, p in theirs.named_parameters() if name.endswith("layer.0.attention.self.query.weight"))
    assert word is not None
    assert query is not None
    ordinary = torch.arange(VOCABULARY) != PAD_ID  # theirs gives padding no gradient as an input
    torch.testing.assert_close(ours.embeddings.word.weight.grad[ordinary], word[ordinary], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.layers[0].attention.qkv.weight.grad[:24], query, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["roberta", "bert"])
@pytest.mark.parametrize("pad", [0, 1, 7])
def test_an_export_has_the_positions_behind_its_padding(architecture: str, pad: int) -> None:
    ours = nowhere_trivial(geometry(architecture)).eval()
    theirs = build(ours, geometry(architecture), {**IDS, "pad": pad}).eval()
    assert theirs.config.max_position_embeddings == TOKENS + (pad + 1 if architecture == "roberta" else 2)
    ids = torch.randint(8, VOCABULARY, (BATCH, TOKENS), generator=torch.Generator().manual_seed(1))
    ids[1, 7:] = pad
    mask = ids != pad
    tokens = mask.flatten().nonzero().squeeze(1)
    logits = theirs(input_ids=ids, attention_mask=mask.long()).logits.flatten(0, 1)[tokens]
    torch.testing.assert_close(ours(ids, rows(mask), tokens), logits, atol=1e-5, rtol=1e-5)


def test_without_padding_the_mask_may_be_left_out(models: tuple[MaskedLM, PreTrainedModel]) -> None:
    ours, _ = models
    ids = torch.randint(5, VOCABULARY, (BATCH, TOKENS), generator=torch.Generator().manual_seed(2))
    positions = torch.arange(0, BATCH * TOKENS, 5)
    full = rows(torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(ours(ids, None, positions), ours(ids, full, positions))


def test_what_stands_in_the_padding_changes_nothing(
    models: tuple[MaskedLM, PreTrainedModel], batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    (ours, _), (ids, mask, positions) = models, batch
    other = torch.where(mask, ids, 9)
    torch.testing.assert_close(ours(ids, rows(mask), positions), ours(other, rows(mask), positions))


def test_a_batch_without_predicted_tokens_has_no_loss(models: tuple[MaskedLM, PreTrainedModel]) -> None:
    ours, _ = models
    none = torch.zeros(0, dtype=torch.long)
    loss = ours(torch.full((1, 4), 7), None, none, none)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in ours.parameters())


def test_initial_weights_depend_on_the_seed_alone_and_are_as_published() -> None:
    torch.manual_seed(1)
    first = MaskedLM(CONFIG, VOCABULARY, seed=7)
    torch.manual_seed(2)
    again, other = MaskedLM(CONFIG, VOCABULARY, seed=7), MaskedLM(CONFIG, VOCABULARY, seed=8)
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.embeddings.word.weight, other.embeddings.word.weight)
    assert first.embeddings.word.weight.std().item() == pytest.approx(0.2, rel=0.1)
    assert not first.embeddings.word.weight[PAD_ID].any()
    elsewhere = MaskedLM(CONFIG, VOCABULARY, seed=7, pad_id=5).embeddings.word.weight
    assert not elsewhere[5].any()
    assert elsewhere[PAD_ID].any()
    assert not first.layers[0].up.bias.any()
