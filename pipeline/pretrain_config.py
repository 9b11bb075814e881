"""The settings of pretraining: what a run is (and is stamped into its checkpoints), and how this machine runs it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.configfile import Config, Positive, Share
from pipeline.encoder.model_config import ModelConfig
from pipeline.encoder.model_folder import resolve_start
from pipeline.engine.optim_config import OptimizerConfig, ScheduleConfig
from pipeline.watching.guard import GuardConfig
from pipeline.watching.watchdog import WatchdogConfig

Documents = Literal["together", "apart"]


class BatchConfig(Config):
    train_batch_size: Positive  # sequences an optimizer step, over all ranks
    train_micro_batch_size_per_gpu: Positive  # sequences a forward and backward pass on one rank
    sequence_length: Positive  # tokens; the corpus must be packed for it
    # whether the documents of a packed sequence attend to each other: `together` as RoBERTa, `apart` with positions
    # that restart at each
    documents: Documents = "together"


class MaskingConfig(Config):
    mlm_probability: Annotated[float, Field(gt=0, le=1)] = 0.15
    mask_share: Share = 0.8
    random_share: Share = 0.1

    @model_validator(mode="after")
    def _shares_fit(self) -> "MaskingConfig":
        if self.mask_share + self.random_share > 1:
            raise ValueError(f"mask_share {self.mask_share} + random_share {self.random_share} is over 1")
        return self


class EvaluationConfig(Config):
    every_steps: Positive = 1000
    samples: Positive = 4096  # of the valid split; fewer when it has fewer
    micro_batch_size: Positive = 32
    # of these, each token is masked alone, one pass of its sample a token; 0: no pseudo-perplexity while training
    pseudo_perplexity_samples: Annotated[int, Field(ge=0)] = 0


class CheckpointConfig(Config):
    every_steps: Positive = 1000
    every_minutes: Annotated[float, Field(gt=0)] | None = None  # as well, by the clock of rank 0 from save to save
    keep_last: Positive = 3
    keep_every: Positive | None = None  # steps: checkpoints at multiples of it are never deleted

    @model_validator(mode="after")
    def _kept_are_saved(self) -> "CheckpointConfig":
        if self.keep_every and self.keep_every % self.every_steps:
            above = (self.keep_every // self.every_steps + 1) * self.every_steps
            below = above - self.every_steps
            near = f"{below} or {above}" if below else f"{above}"
            raise ValueError(
                f"keep_every {self.keep_every} is not a multiple of every_steps {self.every_steps}; nearest: {near}"
            )
        return self


class RestartsConfig(Config):
    """A run that fails goes on from its newest checkpoint by itself."""

    max_restarts: Annotated[int, Field(ge=0)] = 100  # of one command
    first_wait_seconds: Annotated[float, Field(ge=0)] = 5.0  # before a restart; twice as long before each next one …
    longest_wait_seconds: Annotated[float, Field(ge=0)] = 300.0  # … up to this, and as at first behind a new checkpoint


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
    guard: GuardConfig = GuardConfig()
    watchdog: WatchdogConfig = WatchdogConfig()
    restarts: RestartsConfig = RestartsConfig()
    resume: Literal["auto", "must", "never"] = "auto"
    stop_at_step: Positive | None = None  # save, exit 75, and go on when submitted again
    compile: bool = False  # the layers, by torch.compile: faster on GPUs, slower on CPUs
    cpu_ranks: Positive = 1  # processes where no GPU is found; with GPUs there is one for each
    loader_workers: Annotated[int, Field(ge=0)] = 1

    @field_validator("model", mode="before")
    @classmethod
    def _start(cls, model: Any) -> Any:
        return resolve_start(model) if isinstance(model, dict) else model

    @model_validator(mode="after")
    def _sequence_fits(self) -> "PretrainConfig":
        needed = self.batch.sequence_length + self.model.first_position
        if needed > self.model.max_position_embeddings:
            raise ValueError(
                f"batch.sequence_length {self.batch.sequence_length} needs model.max_position_embeddings of at least "
                f"{needed}, found {self.model.max_position_embeddings}"
            )
        return self

    def recipe(self) -> dict[str, Any]:
        """What decides the weights: a checkpoint goes on only under the same recipe (law 5).

        The micro-batch size is not in it: it changes which dropout noise is drawn, not what is learned.
        """
        resolved = self.model_dump(mode="json")
        resolved["batch"].pop("train_micro_batch_size_per_gpu")
        if self.model.init_from:
            resolved["model"]["init_from"] = self.model.init_from.sha256  # wherever it lies
        return {key: resolved[key] for key in ("seed", "model", "batch", "masking", "optimizer", "schedule")}
