"""What a run will be: the figures that are printed are those of the run, and what can be wrong is found beforehand."""

import json
from pathlib import Path

import pytest

from launch import plan
from pipeline.configfile import load_config
from pipeline.encoder.hugging_face import FAMILIES
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.errors import DigestError, InputError
from pipeline.files import MANIFEST, read_json, seal, write_json
from pipeline.pretrain_config import PretrainConfig
from tests.conftest import flip_byte


@pytest.mark.parametrize(("architecture", "layer_norm"), sorted(FAMILIES))
@pytest.mark.parametrize(("layers", "hidden", "heads", "intermediate", "positions", "vocabulary"), [
    (1, 8, 2, 16, 18, 64),
    (3, 12, 3, 20, 34, 101),
    (2, 64, 4, 64, 130, 512),
])  # fmt: skip
def test_parameters_are_counted_as_the_model_has_them(
    pretrain_yaml: Path,
    architecture: str,
    layer_norm: str,
    layers: int,
    hidden: int,
    heads: int,
    intermediate: int,
    positions: int,
    vocabulary: int,
) -> None:
    geometry = {
        "architecture": architecture,
        "layer_norm": layer_norm,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "max_position_embeddings": positions,
    }
    config = load_config(PretrainConfig, pretrain_yaml, [f"model={json.dumps(geometry)}"])
    model = MaskedLM(ModelConfig.model_validate(geometry), vocabulary)
    assert plan.parameters(config, vocabulary) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "vocabulary", "theirs"), [
    ("roberta-base", 50_265, 124_697_433 - 768),
    ("roberta-large", 50_265, 355_412_057 - 1024),
    ("bert-base", 30_522, 109_514_298),
    ("bert-large", 30_522, 335_174_458),
])  # fmt: skip
def test_the_published_models_have_their_size(pretrain_yaml: Path, name: str, vocabulary: int, theirs: int) -> None:
    """Parameters of transformers' RobertaForMaskedLM and BertForMaskedLM; a row of RoBERTa's are the type embedding."""
    config = load_config(PretrainConfig, pretrain_yaml, [f"model={{name: {name}}}"])
    assert plan.parameters(config, vocabulary) == theirs


def test_a_sound_run_passes_on_any_number_of_ranks(pretrain_yaml: Path) -> None:
    for world_size, accumulated in ((1, 8), (2, 4), (8, 1)):
        _, geometry = plan.check(load_config(PretrainConfig, pretrain_yaml), world_size)
        assert geometry.gradient_accumulation_steps == accumulated


def test_segment_pairs_are_refused(pretrain_yaml: Path, corpus: Path) -> None:
    manifest = read_json(corpus / MANIFEST)
    write_json(corpus / MANIFEST, seal({**manifest, "packing": "segment-pair"}))
    with pytest.raises(InputError, match="packing: found segment-pair; accepted here: full-sentences, doc-sentences"):
        plan.check(load_config(PretrainConfig, pretrain_yaml), 1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch.train_micro_batch_size_per_gpu=3", "nearest: 6 or 9"),
        ("batch.sequence_length=12", "not packed for sequences of 12 tokens; it has 16"),
        ("corpus=nowhere", r"nowhere: no manifest\.json here; expected a finished corpus folder"),
        ("deepspeed=nowhere.json", r"nowhere\.json: no such file"),
        ("stop_at_step=11", "stop_at_step: 11 is behind schedule.total_steps 10"),
    ],
)
def test_what_is_wrong_is_found_before_a_process_is_started(pretrain_yaml: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan.check(load_config(PretrainConfig, pretrain_yaml, [override]), 1)


def test_a_shortened_corpus_is_found(pretrain_yaml: Path, corpus: Path) -> None:
    path = corpus / "train-00001-of-00002.tokens"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DigestError, match=r"train-00001-of-00002\.tokens: \d+ bytes, expected \d+, SHA-256"):
        plan.check(load_config(PretrainConfig, pretrain_yaml), 1)


def test_a_flipped_byte_in_an_index_is_found(pretrain_yaml: Path, corpus: Path) -> None:
    flip_byte(corpus / "valid-00000-of-00002.index", 8)
    with pytest.raises(DigestError, match=r"valid-00000-of-00002\.index: SHA-256 \w+, expected \w+"):
        plan.check(load_config(PretrainConfig, pretrain_yaml), 1)


def test_the_plan_shows_the_arithmetic(pretrain_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.show(load_config(PretrainConfig, pretrain_yaml), 2, "CPU")
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "8 sequences a step = 1 a micro-batch × 4 accumulated × 2 rank(s)",
        "tokens a step 128",
        "optimizer adamw, learning rate 0.001 at the peak",
        "model roberta, post-LN, 1 × 8, 2 heads, 16 inside",
        "parameters 1,424, vocabulary 64",
        "steps 10, of them 1 warm-up",
        "(80 samples)",
        "processes 2 on CPU, ZeRO stage 1, fp32 first",
    ):
        assert part in shown, part
