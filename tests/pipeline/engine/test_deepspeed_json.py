"""The user's DeepSpeed JSON: what cannot be honoured is refused before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.deepspeed_json import (
    ACCEPTED_BF16,
    ACCEPTED_FP16,
    ACCEPTED_OFFLOAD,
    ACCEPTED_ZERO,
    OWNED,
    STAGES,
    described,
    made_exact,
    offloads_optimizer,
    precision_of,
    read_deepspeed_json,
    stage_of,
)
from pipeline.errors import InputError


def deepspeed(tmp_path: Path, settings: Any) -> Path:
    path = tmp_path / "deepspeed.json"
    path.write_text(json.dumps(settings))
    return path


def zero(stage: int, offload: str | None = None, half: str | None = None, **settings: Any) -> dict[str, Any]:
    offloading = {} if offload is None else {"offload_optimizer": {"device": offload}}
    precision = {half: {"enabled": True}} if half else {}
    return {"zero_optimization": {"stage": stage, **offloading, **settings}, **precision}


def fp16(**settings: Any) -> dict[str, Any]:
    return {"fp16": {"enabled": True, **settings}}


@pytest.mark.parametrize("stage", STAGES)
def test_stages(tmp_path: Path, stage: int) -> None:
    settings = zero(stage) | {"bf16": {"enabled": False}, "fp16": {"enabled": False}, "steps_per_print": 1}
    assert read_deepspeed_json(deepspeed(tmp_path, settings)) == settings
    assert (stage_of(settings), precision_of(settings), offloads_optimizer(settings)) == (stage, "fp32", False)
    assert "data_types" not in made_exact(settings)


def test_without_a_word_nothing_is_partitioned(tmp_path: Path) -> None:
    settings = read_deepspeed_json(deepspeed(tmp_path, {}))
    assert settings == {}
    assert (stage_of(settings), precision_of(settings), offloads_optimizer(settings)) == (0, "fp32", False)


@pytest.mark.parametrize(
    "settings",
    [
        *(zero(stage, half=half) for stage in (1, 2, 3) for half in ("bf16", "fp16")),
        *(zero(stage, "cpu", half=half) for stage in (1, 2, 3) for half in ("bf16", "fp16")),
        zero(1) | fp16(loss_scale=0, initial_scale_power=32, loss_scale_window=1, hysteresis=1, min_loss_scale=4),
        zero(1) | fp16(loss_scale=128.5, consecutive_hysteresis=True) | {"bf16": {"enabled": False}},
        *(zero(stage, "cpu") for stage in (1, 2, 3)),
        zero(0, "none", offload_param={"device": "none"}),
        zero(3, stage3_param_persistence_threshold=0, stage3_max_live_parameters=1e9, sub_group_size=1e6),
        zero(1, reduce_bucket_size=10**400, allgather_bucket_size=2, overlap_comm=True),
    ],
)
def test_what_is_accepted(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert read_deepspeed_json(deepspeed(tmp_path, settings)) == settings


def test_what_people_read() -> None:
    assert described({}) == "ZeRO stage 0, fp32"
    assert described(zero(3, "cpu", half="bf16")) == "ZeRO stage 3, bf16, optimizer on the host"
    assert described(zero(1, half="fp16")) == "ZeRO stage 1, fp16"


@pytest.mark.parametrize("half", ["bf16", "fp16"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_half_precision_is_summed_in_fp32(stage: int, half: str) -> None:
    exact = made_exact(zero(stage, half=half))
    assert exact["data_types"]["grad_accum_dtype"] == exact["communication_data_type"] == "fp32"


def test_at_stage_1_gradients_are_not_copied_into_buckets() -> None:
    assert made_exact(zero(1))["zero_optimization"] == {"stage": 1, "contiguous_gradients": False}
    for said in (zero(1, contiguous_gradients=True), zero(1, overlap_comm=True), zero(2), zero(3)):
        assert made_exact(said)["zero_optimization"] == said["zero_optimization"]


@pytest.mark.parametrize("key", sorted(OWNED))
def test_what_the_configuration_owns_is_a_clash(tmp_path: Path, key: str) -> None:
    path = deepspeed(tmp_path, {key: 1, "steps_per_print": 1})
    with pytest.raises(InputError) as caught:
        read_deepspeed_json(path)
    assert str(caught.value) == f"{path}: {key!r} belongs to the pretraining configuration: set {OWNED[key]} there"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (zero(7), "zero_optimization.stage: found 7; accepted: 0, 1, 2, 3"),
        ({"zero_optimization": {"stage": "1"}}, 'zero_optimization.stage: found "1"; accepted: 0, 1, 2, 3'),
        ({"zero_optimization": {"stage": True}}, "zero_optimization.stage: found true; accepted: 0, 1, 2, 3"),
        ({"zero_optimization": {"stage": [1]}}, "zero_optimization.stage: found [1]; accepted: 0, 1, 2, 3"),
        ({"zero_optimization": True}, "zero_optimization: found true; expected an object"),
        ({"zero_optimization": None}, "zero_optimization: found null; expected an object"),
        ({"zero_optimization": {"stagee": 1}}, "zero_optimization: unknown key 'stagee'; did you mean 'stage'?"),
        (zero(3, stage3_max_live_parameter=1), "zero_optimization: unknown key 'stage3_max_live_parameter'; did"),
        (zero(3, zero_quantized_weights=True), "zero_optimization: unknown key 'zero_quantized_weights'"),
        (zero(2, reduce_bucket_size="auto"), 'zero_optimization.reduce_bucket_size: found "auto"; expected a whole'),
        (zero(2, reduce_bucket_size=0), "zero_optimization.reduce_bucket_size: found 0; expected a whole"),
        (zero(2, allgather_bucket_size=3), "zero_optimization.allgather_bucket_size: DeepSpeed needs an even number"),
        (zero(2, overlap_comm=1), "zero_optimization.overlap_comm: found 1; expected true or false"),
        (zero(3, "nvme"), 'zero_optimization.offload_optimizer.device: found "nvme"; accepted: none, cpu'),
        (zero(3, offload_optimizer={"ratio": 0.5}), "zero_optimization.offload_optimizer: unknown key 'ratio'"),
        (zero(3, offload_param={"device": "cpu"}), "zero_optimization.offload_param: weights stay with their rank"),
        (zero(3, offload_param=True), "zero_optimization.offload_param: found true; expected an object"),
        (zero(0, "cpu"), "zero_optimization.offload_optimizer: needs stage 1, 2 or 3; found stage 0"),
        (zero(0, half="bf16"), "bf16.enabled: at stage 0 DeepSpeed accumulates gradients in bf16; use stage 1, 2 or 3"),
        ({"zero_optimisation": {"stage": 1}}, "unknown key 'zero_optimisation'; did you mean 'zero_optimization'?"),
        ({"bfloat16": {"enabled": True}}, "unknown key 'bfloat16'"),
        ({"torch_autocast": {"enabled": True}}, "unknown key 'torch_autocast'"),
        (fp16(), "fp16.enabled: at stage 0 DeepSpeed accumulates gradients in fp16 and does not scale the loss; use"),
        ({"fp16": {"enabled": "auto"}}, 'fp16.enabled: found "auto"; expected true or false'),
        (zero(1, half="bf16") | fp16(), "fp16.enabled: bf16 is enabled too; enable one of them"),
        (zero(1) | fp16(loss_scale=-1), "fp16.loss_scale: found -1; expected a number from 0, which makes it dynamic"),
        (zero(1) | fp16(loss_scale=10**400), "fp16.loss_scale: found 1000"),
        (zero(1) | fp16(loss_scale=True), "fp16.loss_scale: found true; expected a number from 0"),
        (zero(1) | fp16(initial_scale_power=33), "fp16.initial_scale_power: found 33; expected a whole number from 0"),
        (zero(1) | fp16(loss_scale_window=0), "fp16.loss_scale_window: found 0; expected a whole number of at least 1"),
        (zero(1) | fp16(hysteresis=0), "fp16.hysteresis: found 0; expected a whole number of at least 1"),
        (zero(1) | fp16(min_loss_scale=0.5), "fp16.min_loss_scale: found 0.5; expected a whole number of at least 1"),
        (zero(1) | fp16(min_loss_scale=2**17), "fp16.min_loss_scale: found 131072, over the initial scale 65536"),
        (zero(1) | fp16(auto_cast=True), "fp16: unknown key 'auto_cast'"),
        (zero(1) | fp16(fp16_master_weights_and_grads=True), "fp16: unknown key 'fp16_master_weights_and_grads'"),
        ({"bf16": {"enabled": "auto"}}, 'bf16.enabled: found "auto"; expected true or false'),
        ({"bf16": {"bf16_optimizer_states": True}}, "bf16: unknown key 'bf16_optimizer_states'"),
        ({"bf16": True}, "bf16: found true; expected an object"),
        ({"steps_per_print": 0}, "steps_per_print: found 0; expected a whole number of at least 1"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, settings: Any, complaint: str) -> None:
    path = deepspeed(tmp_path, settings)
    with pytest.raises(InputError) as caught:
        read_deepspeed_json(path)
    assert str(caught.value).startswith(f"{path}: {complaint}")
    assert len(str(caught.value).splitlines()) == 1


def test_several_clashes_name_the_same_one_in_every_process(tmp_path: Path) -> None:
    path = deepspeed(tmp_path, dict.fromkeys(reversed(sorted(OWNED)), 1))
    with pytest.raises(InputError, match="'communication_data_type' belongs"):
        read_deepspeed_json(path)


def test_every_accepted_key_is_one_of_deepspeeds() -> None:
    """It ignores keys that it does not know, at some places."""
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadOptimizerConfig

    for accepted, model in (
        (ACCEPTED_ZERO, DeepSpeedZeroConfig),
        (ACCEPTED_BF16, DeepSpeedBF16Config),
        (ACCEPTED_FP16, DeepSpeedFP16Config),
        (ACCEPTED_OFFLOAD, DeepSpeedZeroOffloadOptimizerConfig),
    ):
        known = {field.alias or name for name, field in model.model_fields.items()}
        assert accepted.keys() <= known
