"""AdamW and its schedule: the rate of every step, and which parameters decay; and that every optimizer learns."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configfile import load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.initial import initial_model
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.engine.optim import adamw, build_optimizer, learning_rate
from pipeline.engine.optim_config import AdamWConfig, ScheduleConfig
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.data import TrainBatches

PEAK = 8e-4
OPTIMIZER = AdamWConfig(learning_rate=PEAK)


def rates(total: int, warmup: float) -> list[float]:
    schedule = ScheduleConfig(total_steps=total, warmup_fraction=warmup)
    return [learning_rate(step, OPTIMIZER, schedule) for step in range(total)]


def test_linear_warmup_and_linear_decay() -> None:
    assert rates(10, 0.4) == pytest.approx(
        [PEAK * x for x in (1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6)]
    )


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert rates(4, 0.0) == pytest.approx([PEAK * x for x in (1, 3 / 4, 2 / 4, 1 / 4)])


def test_warmup_all_the_way() -> None:
    assert rates(4, 1.0) == pytest.approx([PEAK * x for x in (1 / 4, 2 / 4, 3 / 4, 1)])


@given(st.integers(1, 400), st.floats(0, 1))
def test_shape_of_the_schedule(total: int, warmup: float) -> None:
    """No update is wasted (every rate is positive), the peak is reached and not exceeded, one rise and one fall."""
    found = rates(total, warmup)
    warmup_steps = ScheduleConfig(total_steps=total, warmup_fraction=warmup).warmup_steps
    assert all(0 < rate < PEAK * (1 + 1e-12) for rate in found)
    assert found[max(0, warmup_steps - 1)] == pytest.approx(PEAK, rel=1e-12)
    assert found[:warmup_steps] == sorted(found[:warmup_steps])
    assert found[warmup_steps:] == sorted(found[warmup_steps:], reverse=True)


def test_the_rate_is_a_function_of_the_step_alone() -> None:
    """Step 400,000 of a resumed run is asked without its predecessors."""
    schedule = ScheduleConfig(total_steps=500_000, warmup_fraction=0.06)
    assert learning_rate(29_999, OPTIMIZER, schedule) == PEAK
    assert learning_rate(400_000, OPTIMIZER, schedule) == pytest.approx(PEAK * 100_000 / 470_000)
    assert learning_rate(499_999, OPTIMIZER, schedule) == pytest.approx(PEAK / 470_000)


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
def test_behind_the_last_step_the_rate_is_zero(warmup: float) -> None:
    """A profile takes its steps from where the run stands, the last of a warm-up to the end too."""
    schedule = ScheduleConfig(total_steps=10, warmup_fraction=warmup)
    assert [learning_rate(step, OPTIMIZER, schedule) for step in (10, 11, 14)] == [0.0, 0.0, 0.0]


def test_matrices_decay_and_biases_and_norms_do_not() -> None:
    config = ModelConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=2, intermediate_size=12)
    model = MaskedLM(config, vocab_size=20)
    optimizer = adamw(model, AdamWConfig(learning_rate=PEAK, beta1=0.8, beta2=0.95, eps=1e-7, weight_decay=0.3))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay.keys() == set(names.values())  # each parameter, the tied embeddings once
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    for name, value in decay.items():
        assert value == (0.0 if name.endswith("bias") or "norm" in name else 0.3), name
    assert {(g["lr"], g["betas"], g["eps"]) for g in optimizer.param_groups} == {(PEAK, (0.8, 0.95), 1e-7)}


@pytest.mark.parametrize(("kind", "rate"), [("adamw", 0.02), ("lamb", 0.05), ("muon", 0.05)])
def test_it_learns(pretrain_yaml: Path, kind: str, rate: float) -> None:
    """The corpus is a Markov chain of 59 tokens: who knows no neighbours loses ln 59 = 4.08 nats."""
    overrides = [f"optimizer={{type: {kind}, learning_rate: {rate}}}", "schedule.total_steps=80"]
    overrides += ["model.hidden_dropout_prob=0.0", "model.attention_probs_dropout_prob=0.0"]
    overrides += ["model.hidden_size=32", "model.intermediate_size=64", "batch.train_batch_size=64"]
    config = load_config(PretrainConfig, pretrain_yaml, overrides)
    model = initial_model(config, Corpus(config.corpus)).train()
    optimizer = build_optimizer(model, config.optimizer)
    batches = TrainBatches(config.corpus, config, BatchGeometry(64, 64, 1))
    losses = []
    for step, batch in enumerate(batches[range(80)]):
        loss = model(batch.input_ids, batch.sequences, batch.positions, batch.labels) / len(batch.labels)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.optimizer, config.schedule)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(4.16, abs=0.1)
    assert sum(losses[-5:]) / 5 < 3.9
