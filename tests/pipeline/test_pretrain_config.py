"""The settings of pretraining: what cannot be honoured is refused before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.configfile import dump_config, load_config
from pipeline.engine.deepspeed_json import read_deepspeed_json
from pipeline.engine.optim_config import MuonConfig, ScheduleConfig
from pipeline.errors import InputError
from pipeline.pretrain_config import PretrainConfig

GEOMETRY = ["architecture", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"]
GEOMETRY += ["max_position_embeddings", "layer_norm_eps"]
ROOT = Path(__file__).parents[2]
MINIMAL = """\
corpus: corpus
output: run
deepspeed: deepspeed.json
batch: {train_batch_size: 8, train_micro_batch_size_per_gpu: 4, sequence_length: 128}
optimizer: {learning_rate: 1e-3}
schedule: {total_steps: 100}
"""


def load(tmp_path: Path, *overrides: str) -> PretrainConfig:
    path = tmp_path / "pretrain.yaml"
    path.write_text(MINIMAL)
    return load_config(PretrainConfig, path, overrides)


def test_the_defaults_are_roberta(tmp_path: Path) -> None:
    """Liu et al. 2019, table 9 and section 3; the shares of BERT, section 3.1."""
    config = load(tmp_path)
    assert (config.optimizer.beta1, config.optimizer.beta2, config.optimizer.eps) == (0.9, 0.98, 1e-6)
    assert (config.optimizer.weight_decay, config.optimizer.max_grad_norm) == (0.01, 0.0)
    assert (config.masking.mlm_probability, config.masking.mask_share, config.masking.random_share) == (0.15, 0.8, 0.1)
    assert (config.model.num_hidden_layers, config.model.hidden_size, config.model.max_position_embeddings) == (
        12,
        768,
        514,
    )


@pytest.mark.parametrize(
    ("recipe", "layers", "batch", "peak", "warmup", "steps", "beta2"),
    [
        ("roberta-base", 12, 8192, 6e-4, 24_000, 500_000, 0.98),
        ("roberta-large", 24, 8192, 4e-4, 30_000, 500_000, 0.98),
        ("bert-base", 12, 256, 1e-4, 10_000, 1_000_000, 0.999),
    ],
)
def test_the_recipes_are_the_published_ones(
    recipe: str, layers: int, batch: int, peak: float, warmup: int, steps: int, beta2: float
) -> None:
    """Liu et al. 2019, table 9; Devlin et al. 2019, appendix A.2."""
    config = load_config(PretrainConfig, ROOT / "configs" / "pretrain" / f"{recipe}.yaml")
    assert (config.model.num_hidden_layers, config.model.architecture) == (layers, recipe.split("-")[0])
    assert (config.model.hidden_dropout_prob, config.model.attention_probs_dropout_prob) == (0.1, 0.1)
    assert (config.batch.train_batch_size, config.batch.sequence_length) == (batch, 512)
    optimizer, schedule = config.optimizer, config.schedule
    assert (optimizer.learning_rate, schedule.warmup_steps, schedule.total_steps) == (peak, warmup, steps)
    assert (optimizer.beta1, optimizer.beta2, optimizer.eps, optimizer.weight_decay) == (0.9, beta2, 1e-6, 0.01)
    assert (config.masking.mlm_probability, config.masking.mask_share, config.masking.random_share) == (0.15, 0.8, 0.1)
    assert read_deepspeed_json(ROOT / config.deepspeed)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("{name: roberta-base}", ("roberta", 12, 768, 12, 3072, 514, 1e-5)),
        ("{name: roberta-large}", ("roberta", 24, 1024, 16, 4096, 514, 1e-5)),
        ("{name: bert-base}", ("bert", 12, 768, 12, 3072, 512, 1e-12)),
        ("{name: bert-large, num_hidden_layers: 6}", ("bert", 6, 1024, 16, 4096, 512, 1e-12)),
        ("{architecture: bert, layer_norm_eps: 1e-6}", ("bert", 12, 768, 12, 3072, 512, 1e-6)),
        ("{name: bert-base, max_position_embeddings: 1024}", ("bert", 12, 768, 12, 3072, 1024, 1e-12)),
    ],
)
def test_a_name_stands_for_fields_that_given_ones_override(tmp_path: Path, model: str, found: tuple[Any, ...]) -> None:
    config = load(tmp_path, f"model={model}")
    resolved = config.model.model_dump()
    assert tuple(resolved[key] for key in GEOMETRY) == found
    assert "name" not in config.recipe()["model"], "a name is not what decides the weights"
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(config))
    assert load_config(PretrainConfig, path) == config


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("model.name=roberta-bse", "model.name: found 'roberta-bse'; expected 'roberta-base', 'roberta-large', 'bert-"),
        ("model.name=7", "model.name: found 7; expected 'roberta-base'"),
        ("model=7", "model: found 7; expected"),
        ("model.layer_norm_eps=0", "model.layer_norm_eps: found 0; expected greater than 0"),
        ("model.initializer_range=-0.1", "model.initializer_range: found -0.1; expected greater than or equal to 0"),
        ("model.architecture=[bert]", "model.architecture: found list; expected 'roberta' or 'bert'"),
        ("model.layer_norm=before", "model.layer_norm: found 'before'; expected 'post' or 'pre'"),
        ("model.num_attention_heads=5", "hidden_size 768 is not a multiple of num_attention_heads 5"),
        ("masking.random_share=0.3", "mask_share 0.8 + random_share 0.3 is over 1"),
        ("batch.sequence_length=513", "needs model.max_position_embeddings of at least 515, found 514"),
        ("model={name: bert-base, max_position_embeddings: 127}", "max_position_embeddings of at least 128, found 127"),
        ("batch.train_batch_size=0", "batch.train_batch_size: found 0; expected greater than 0"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate: found 0; expected greater than 0"),
        ("optimizer.learning_rate=.inf", "optimizer.learning_rate: found inf; expected a finite number"),
        ("optimizer.beta1=1.0", "optimizer.beta1: found 1.0; expected less than 1"),
        ("optimizer.beta2=1", "optimizer.beta2: found 1; expected less than 1"),
        ("optimizer.type=lam", "optimizer.type: found 'lam'; did you mean 'lamb'?"),
        ("optimizer.type=7", "optimizer.type: found 7; accepted: adamw, lamb, muon"),
        ("optimizer={type: lamb}", "key 'optimizer.learning_rate' is missing"),
        ("optimizer.momentum=0.9", "unknown key 'optimizer.momentum'; accepted: beta1, beta2, eps"),
        ("optimizer={type: lamb, learning_rate: 1, momentum: 0.9}", "unknown key 'optimizer.momentum'"),
        ("optimizer={type: muon, learning_rate: 1, momentum: 1}", "optimizer.momentum: found 1; expected less than 1"),
        ("optimizer={type: muon, learning_rate: 1, newton_schulz_dtype: fp16}", "found 'fp16'; expected 'fp32'"),
        ("masking.mlm_probability=0", "masking.mlm_probability: found 0; expected greater than 0"),
        ("masking.mlm_probability=1.5", "masking.mlm_probability: found 1.5; expected less than or equal to 1"),
        ("schedule.warmup_fraction=-0.1", "schedule.warmup_fraction: found -0.1; expected greater than or equal to 0"),
        ("resume=maybe", "resume: found 'maybe'; expected 'auto', 'must' or 'never'"),
        ("seed=-1", "seed: found -1; expected greater than or equal to 0"),
        (f"seed={2**64}", f"seed: found {2**64}; expected less than {2**63}"),
        ("stop_at_step=0", "stop_at_step: found 0; expected greater than 0"),
        ("cpu_ranks=0", "cpu_ranks: found 0; expected greater than 0"),
        ("optimiser.learning_rate=1", "unknown key 'optimiser'; did you mean 'optimizer'?"),
        ("batch.gradient_accumulation_steps=2", "unknown key 'batch.gradient_accumulation_steps'; accepted: "),
        ("model.hidden_dropout_prob=1", "model.hidden_dropout_prob: found 1; expected less than 1"),
        ("model.attention_probs_dropout_prob=1.0", "attention_probs_dropout_prob: found 1.0; expected less than 1"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, override: str, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, override)
    assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_optimizers_have_their_papers_defaults(tmp_path: Path) -> None:
    assert load(tmp_path).optimizer.type == "adamw"
    lamb, muon = (load(tmp_path, f"optimizer.type={kind}").optimizer for kind in ("lamb", "muon"))
    assert (lamb.beta1, lamb.beta2, lamb.eps, lamb.weight_decay) == (0.9, 0.999, 1e-6, 0.01)
    assert isinstance(muon, MuonConfig)
    assert (muon.momentum, muon.newton_schulz_dtype) == (0.95, "fp32")
    assert load(tmp_path, "optimizer.type=muon").recipe() != load(tmp_path).recipe()


def test_what_lies_on_the_edge_is_accepted(tmp_path: Path) -> None:
    config = load(tmp_path, "batch.sequence_length=512", "masking.random_share=0.2", "schedule.warmup_fraction=1")
    assert load(tmp_path, "masking.mlm_probability=1", "optimizer.beta1=0", "loader_workers=0", f"seed={2**63 - 1}")
    assert config.schedule.warmup_steps == 100


@given(st.integers(0, 100), st.integers(1, 3000))
@example(7, 100)
@example(14, 50)
def test_warmup_is_a_fraction_in_decimal(percent: int, total: int) -> None:
    """7 % of 100 steps are 7 steps, though 0.07 × 100 is 7.000000000000001 in binary."""
    schedule = ScheduleConfig(total_steps=total, warmup_fraction=percent / 100)
    assert schedule.warmup_steps == -(-percent * total // 100)


def test_the_recipe_is_what_decides_the_weights(tmp_path: Path) -> None:
    ours = load(tmp_path).recipe()
    machine = "compile=true corpus=x output=x deepspeed=x cpu_ranks=4 loader_workers=0 resume=must stop_at_step=5"
    cadence = "batch.train_micro_batch_size_per_gpu=2 evaluation.samples=9 checkpoint.keep_last=1"
    for same in f"{machine} {cadence}".split():
        assert load(tmp_path, same).recipe() == ours, same
    model = "seed=1 model.architecture=bert model.layer_norm=pre model.num_hidden_layers=2"
    model += " masking.mask_share=0.7 batch.sequence_length=64"
    for other in f"{model} batch.train_batch_size=16 optimizer.beta2=0.9 schedule.total_steps=9".split():
        assert load(tmp_path, other).recipe() != ours, other
    assert json.loads(json.dumps(ours)) == ours  # it is compared with what a manifest's JSON holds


def test_a_resolved_configuration_loads_again(tmp_path: Path) -> None:
    config = load(tmp_path, "output='1e5'", "stop_at_step=7", "optimizer.eps=1e-12")
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(config))
    assert load_config(PretrainConfig, path) == config


@pytest.mark.parametrize(("keep_every", "nearest"), [(150, "100 or 200"), (50, "100")])
def test_what_is_kept_must_be_saved(tmp_path: Path, keep_every: int, nearest: str) -> None:
    with pytest.raises(InputError, match=rf"keep_every {keep_every} is not a multiple of .* 100; nearest: {nearest}$"):
        load(tmp_path, "checkpoint.every_steps=100", f"checkpoint.keep_every={keep_every}")
    assert load(tmp_path, "checkpoint.every_steps=100", "checkpoint.keep_every=200").checkpoint.keep_every == 200
