"""The settings of pretraining: what a run is (and is stamped into its checkpoints), and how this machine runs it."""

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.configfile import Config
from pipeline.errors import InputError, nearest
from pipeline.files import read_json

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]
Moment = Annotated[float, Field(ge=0, lt=1)]  # of Adam: at 1 nothing would ever be forgotten


class ModelConfig(Config):
    """A RoBERTa encoder, in the terms of `transformers.RobertaConfig`; the vocabulary is the corpus's."""

    num_hidden_layers: Positive = 12
    hidden_size: Positive = 768
    num_attention_heads: Positive = 12
    intermediate_size: Positive = 3072
    max_position_embeddings: Positive = 514  # two more than the longest sequence: RoBERTa counts positions from 2
    hidden_dropout_prob: Share = 0.1
    attention_probs_dropout_prob: Share = 0.1
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    # how the learned positions begin: `normal` as published; `sinusoidal` leaves the unigram plateau in a tenth of the
    # tokens where these are few, since a neighbour is then the same rotation everywhere
    position_init: Literal["normal", "sinusoidal"] = "normal"
    # how the output bias begins: `zeros` as published; `unigram` at the log frequencies of the corpus's tokens, which
    # the first hundreds of steps would otherwise learn
    output_bias_init: Literal["zeros", "unigram"] = "zeros"

    @model_validator(mode="after")
    def _heads_divide(self) -> "ModelConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        return self


class BatchConfig(Config):
    train_batch_size: Positive  # sequences an optimizer step, over all ranks
    train_micro_batch_size_per_gpu: Positive  # sequences a forward and backward pass on one rank
    sequence_length: Positive  # tokens; the corpus must be packed for it


class MaskingConfig(Config):
    mlm_probability: Annotated[float, Field(gt=0, le=1)] = 0.15
    mask_share: Share = 0.8
    random_share: Share = 0.1

    @model_validator(mode="after")
    def _shares_fit(self) -> "MaskingConfig":
        if self.mask_share + self.random_share > 1:
            raise ValueError(f"mask_share {self.mask_share} + random_share {self.random_share} is over 1")
        return self


class OptimizerConfig(Config):
    """AdamW as in RoBERTa (table 9): β₂ = 0.98 and ε = 1e-6 for large batches; no decay on biases and norms."""

    learning_rate: Annotated[float, Field(gt=0)]
    beta1: Moment = 0.9
    beta2: Moment = 0.98
    eps: Annotated[float, Field(gt=0)] = 1e-6
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(ge=0)] = 0.0  # 0: no clipping, as RoBERTa


class ScheduleConfig(Config):
    """Linear warm-up, then linear decay to zero at `total_steps` (RoBERTa, table 9)."""

    total_steps: Positive
    warmup_fraction: Share = 0.06

    @property
    def warmup_steps(self) -> int:
        return math.ceil(Decimal(str(self.warmup_fraction)) * self.total_steps)  # 0.07 × 100 is over 7 in binary


class EvaluationConfig(Config):
    every_steps: Positive = 1000
    samples: Positive = 4096  # of the valid split; fewer when it has fewer
    micro_batch_size: Positive = 32


class CheckpointConfig(Config):
    every_steps: Positive = 1000
    keep_last: Positive = 3


class PretrainConfig(Config):
    """One pretraining run."""

    corpus: Path
    output: Path
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    model: ModelConfig = ModelConfig()
    batch: BatchConfig
    masking: MaskingConfig = MaskingConfig()
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    deepspeed: Path  # a DeepSpeed JSON: ZeRO stage, precision, communication
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    resume: Literal["auto", "must", "never"] = "auto"
    stop_at_step: Positive | None = None  # save, exit 75, and go on when submitted again
    cpu_ranks: Positive = 1  # processes where no GPU is found; with GPUs there is one for each
    loader_workers: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _sequence_fits(self) -> "PretrainConfig":
        if self.batch.sequence_length + 2 > self.model.max_position_embeddings:
            raise ValueError(
                f"batch.sequence_length {self.batch.sequence_length} needs model.max_position_embeddings of at least "
                f"{self.batch.sequence_length + 2}, found {self.model.max_position_embeddings}"
            )
        return self

    def recipe(self) -> dict[str, Any]:
        """What decides the weights: a checkpoint goes on only under the same recipe (law 5).

        The micro-batch size is not in it: it changes which dropout noise is drawn, not what is learned.
        """
        resolved = self.model_dump(mode="json")
        resolved["batch"].pop("train_micro_batch_size_per_gpu")
        return {key: resolved[key] for key in ("seed", "model", "batch", "masking", "optimizer", "schedule")}


# DeepSpeed keys that the configuration above owns, and where to set them instead.
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
