"""The user's DeepSpeed JSON: what it may say, and what the pretraining configuration says instead. No torch."""

import json
from pathlib import Path
from typing import Any

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
}

# DeepSpeed keys that have been tried here; another could change precision or ownership of tensors unseen.
ACCEPTED = {
    "zero_optimization",
    "fp16",
    "bf16",
    "steps_per_print",
    "wall_clock_breakdown",
    "comms_logger",
    "dump_state",
}
ACCEPTED_ZERO = {"stage", "allgather_partitions", "allgather_bucket_size", "overlap_comm", "reduce_scatter"}
ACCEPTED_ZERO |= {"reduce_bucket_size", "contiguous_gradients"}


def read_deepspeed_json(path: Path) -> dict[str, Any]:
    """The user's DeepSpeed JSON, checked for what cannot be honoured.

    Raises:
        InputError: it sets what the configuration owns, asks for a stage or precision that is not supported, or has a
            key that is not known here.
    """
    settings = read_json(path)
    for key in sorted(OWNED.keys() & settings.keys()):
        raise InputError(f"{path}: {key!r} belongs to the pretraining configuration: set {OWNED[key]} there")
    for key in sorted(settings.keys() - ACCEPTED):
        raise InputError(f"{path}: unknown key {key!r}{nearest(key, ACCEPTED)}")
    for key in ("zero_optimization", "fp16", "bf16"):
        if not isinstance(settings.get(key, {}), dict):
            raise InputError(f"{path}: {key}: found {json.dumps(settings[key])}; expected an object")
    zero = settings.get("zero_optimization", {})
    for key in sorted(zero.keys() - ACCEPTED_ZERO):
        raise InputError(f"{path}: zero_optimization: unknown key {key!r}{nearest(key, ACCEPTED_ZERO)}")
    stage = zero.get("stage", 0)
    if isinstance(stage, bool) or stage not in (0, 1, 2):
        raise InputError(f"{path}: zero_optimization.stage: found {json.dumps(stage)}; accepted: 0, 1, 2")
    for precision in ("fp16", "bf16"):
        if settings.get(precision, {}).get("enabled"):
            raise InputError(f"{path}: {precision}.enabled: training runs in fp32; accepted: false")
    return settings
