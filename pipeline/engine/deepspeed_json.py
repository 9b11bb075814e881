"""The user's DeepSpeed JSON: what it may say, what the pretraining configuration says instead, and what exactness asks
for beside it. No torch.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import InputError, nearest
from pipeline.files import read_json

# DeepSpeed keys that the pretraining configuration owns, and where to set them instead.
OWNED = {
    "train_batch_size": "batch.train_batch_size",
    "train_micro_batch_size_per_gpu": "batch.train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps": "batch (it is computed)",
    "optimizer": "optimizer",
    "scheduler": "schedule",
    "gradient_clipping": "optimizer.max_grad_norm",
    "prescale_gradients": "nothing: gradients are scaled exactly",
    "gradient_predivide_factor": "nothing: gradients are scaled exactly",
    "data_types": "nothing: gradients are accumulated in fp32",
    "communication_data_type": "nothing: gradients are summed in fp32",
    "zero_allow_untested_optimizer": "nothing: every optimizer is tested",
    "zero_force_ds_cpu_optimizer": "nothing: an offloaded optimizer is PyTorch's",
}

STAGES = (0, 1, 2, 3)
Precision = Literal["fp32", "bf16", "fp16"]


def _is_size(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 and (isinstance(value, int) or value.is_integer())  # DeepSpeed's documentation writes 5e8


def _is_scale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 2**32


Kind = tuple[Callable[[Any], bool], str]
FLAG: Kind = (lambda value: isinstance(value, bool), "expected true or false")
COUNT: Kind = (lambda value: _is_size(value) and value > 0, "expected a whole number of at least 1")
SIZE: Kind = (_is_size, "expected a whole number of at least 0")
STAGE: Kind = (lambda value: _is_size(value) and value in STAGES, f"accepted: {', '.join(map(str, STAGES))}")
OBJECT: Kind = (lambda value: isinstance(value, dict), "expected an object")
POWER: Kind = (lambda value: _is_size(value) and value <= 32, "expected a whole number from 0 to 32")
SCALE: Kind = (_is_scale, f"expected a number from 0, which makes it dynamic, to {2**32}")
DEVICE: Kind = (lambda value: value in ("none", "cpu"), "accepted: none, cpu")

# What has been tried here; another key could change precision or ownership of tensors unseen.
ACCEPTED = {
    "zero_optimization": OBJECT,
    "fp16": OBJECT,
    "bf16": OBJECT,
    "steps_per_print": COUNT,
    "wall_clock_breakdown": FLAG,
    "comms_logger": OBJECT,
    "dump_state": FLAG,
}
ACCEPTED_ZERO = {
    "stage": STAGE,
    "allgather_partitions": FLAG,
    "allgather_bucket_size": COUNT,
    "overlap_comm": FLAG,
    "reduce_scatter": FLAG,
    "reduce_bucket_size": COUNT,
    "contiguous_gradients": FLAG,
    "sub_group_size": COUNT,
    "offload_optimizer": OBJECT,
    "offload_param": OBJECT,
    "stage3_prefetch_bucket_size": SIZE,
    "stage3_param_persistence_threshold": SIZE,
    "stage3_model_persistence_threshold": SIZE,
    "stage3_max_live_parameters": SIZE,
    "stage3_max_reuse_distance": SIZE,
    "stage3_gather_16bit_weights_on_model_save": FLAG,
}
ACCEPTED_BF16 = {"enabled": FLAG}
ACCEPTED_FP16 = {
    "enabled": FLAG,
    "loss_scale": SCALE,
    "initial_scale_power": POWER,
    "loss_scale_window": COUNT,
    "hysteresis": COUNT,
    "consecutive_hysteresis": FLAG,
    "min_loss_scale": COUNT,
}
ACCEPTED_OFFLOAD = {"device": DEVICE, "pin_memory": FLAG}


def read_deepspeed_json(path: Path) -> dict[str, Any]:
    """The user's DeepSpeed JSON, checked for what cannot be honoured.

    Raises:
        InputError: it is not there; it sets what the configuration owns, has a key that is not known here or a value
            that is not accepted, or asks for a precision that its stage does not compute exactly.
    """
    if not path.exists():
        raise InputError(f"deepspeed: {path}: no such file; expected a DeepSpeed JSON, as in configs/deepspeed")
    settings = read_json(path)
    for key in sorted(OWNED.keys() & settings.keys()):
        raise InputError(f"{path}: {key!r} belongs to the pretraining configuration: set {OWNED[key]} there")
    _check(path, "", settings, ACCEPTED)
    zero = settings.get("zero_optimization", {})
    _check(path, "zero_optimization", zero, ACCEPTED_ZERO)
    _check(path, "bf16", settings.get("bf16", {}), ACCEPTED_BF16)
    _check(path, "fp16", settings.get("fp16", {}), ACCEPTED_FP16)
    _check(path, "zero_optimization.offload_optimizer", zero.get("offload_optimizer", {}), ACCEPTED_OFFLOAD)
    if zero.get("offload_param", {}).get("device", "none") != "none":
        raise InputError(f"{path}: zero_optimization.offload_param: weights stay with their rank; accepted: none")
    if zero.get("allgather_bucket_size", 2) % 2:
        raise InputError(f"{path}: zero_optimization.allgather_bucket_size: DeepSpeed needs an even number")
    _check_precision(path, settings)
    return settings


def _check(path: Path, where: str, found: dict[str, Any], accepted: dict[str, Kind]) -> None:
    for key in sorted(found.keys() - accepted.keys()):
        place = f"{where}: " if where else ""
        raise InputError(f"{path}: {place}unknown key {key!r}{nearest(key, accepted)}")
    for key, value in found.items():
        sound, expected = accepted[key]
        if not sound(value):
            raise InputError(f"{path}: {where}{'.' * bool(where)}{key}: found {json.dumps(value)}; {expected}")


def _check_precision(path: Path, settings: dict[str, Any]) -> None:
    stage, offload, precision = stage_of(settings), offloads_optimizer(settings), precision_of(settings)
    if offload and stage == 0:
        raise InputError(f"{path}: zero_optimization.offload_optimizer: needs stage 1, 2 or 3; found stage 0")
    if _enabled(settings, "bf16") and _enabled(settings, "fp16"):
        raise InputError(f"{path}: fp16.enabled: bf16 is enabled too; enable one of them")
    if precision != "fp32" and stage == 0:
        also = " and does not scale the loss" if precision == "fp16" else ""
        raise InputError(
            f"{path}: {precision}.enabled: at stage 0 DeepSpeed accumulates gradients in {precision}{also};"
            " use stage 1, 2 or 3"
        )
    scaling = settings.get("fp16", {})
    least, first = scaling.get("min_loss_scale", 1), 2 ** scaling.get("initial_scale_power", 16)
    if least > first:
        raise InputError(f"{path}: fp16.min_loss_scale: found {least}, over the initial scale {first}")


def stage_of(settings: dict[str, Any]) -> int:
    """The ZeRO stage."""
    return int(settings.get("zero_optimization", {}).get("stage", 0))


def precision_of(settings: dict[str, Any]) -> Precision:
    """What weights and activations are in the forward and backward pass."""
    if _enabled(settings, "fp16"):
        return "fp16"
    return "bf16" if _enabled(settings, "bf16") else "fp32"


def _enabled(settings: dict[str, Any], precision: Precision) -> bool:
    return bool(settings.get(precision, {}).get("enabled", False))


def offloads_optimizer(settings: dict[str, Any]) -> bool:
    """Whether fp32 weights and the optimizer's states live in the host's memory, where they are updated."""
    zero = settings.get("zero_optimization", {})
    return "offload_optimizer" in zero and zero["offload_optimizer"].get("device", "none") != "none"


def described(settings: dict[str, Any]) -> str:
    """Stage, precision and offloading, for people."""
    where = ", optimizer on the host" if offloads_optimizer(settings) else ""
    return f"ZeRO stage {stage_of(settings)}, {precision_of(settings)}{where}"


def made_exact(settings: dict[str, Any]) -> dict[str, Any]:
    """The checked settings with what the user may not choose: fp32 sums, and an optimizer that compiles nothing.

    And with a default for what they leave open: at stage 1 gradients are reduced from where they lie.
    """
    exact = {**settings, "zero_force_ds_cpu_optimizer": False, "zero_allow_untested_optimizer": True}
    if precision_of(settings) != "fp32":
        exact |= {"data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"}
    zero = settings.get("zero_optimization", {})
    if stage_of(settings) == 1 and not zero.get("overlap_comm", False):
        # Else each gradient is copied twice on its way to the update: a bucket is of use to reductions during the
        # backward pass, which stage 1 has none of.
        exact["zero_optimization"] = {"contiguous_gradients": False, **zero}
    return exact
