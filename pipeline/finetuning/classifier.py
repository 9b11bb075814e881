"""One text classifier, trained by transformers' Trainer on the labelled sets: where fine-tuning meets torch.

Nothing here asks a server, reads pickled weights, or reports to anyone.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries below are imported

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed comes with accelerate, and would warn

import math
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import transformers
from huggingface_hub.errors import StrictDataclassError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from pipeline.errors import InputError, RunError
from pipeline.finetuning.finetune_config import FinetuneConfig
from pipeline.finetuning.finetune_data import Label, read_examples

Classes = npt.NDArray[np.int64]
COUNTS_FROM_PADDING = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "roberta-prelayernorm",
    "xmod",
    "data2vec-text",
)


def classification_scores(predicted: Classes, actual: Classes) -> dict[str, float]:
    """Accuracy, and the mean of the classes' F1 = 2·TP / (2·TP + FP + FN), over the classes that occur in either.

    Args:
        predicted, actual: class of each example, shape (examples,), at least one.
    """
    assert predicted.shape == actual.shape != (0,)
    classes = np.union1d(predicted, actual)
    hits = [np.sum((predicted == c) & (actual == c)) for c in classes]
    either = [np.sum(predicted == c) + np.sum(actual == c) for c in classes]
    f1 = [2 * hit / total for hit, total in zip(hits, either, strict=True)]
    return {"accuracy": float(np.mean(predicted == actual)), "macro_f1": float(np.mean(f1))}


def quiet() -> None:
    """Progress and scores come from here alone."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()


def use_all_cores() -> None:
    """As many threads as this process may use cores: torch counts the machine's, which a container does not own."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))


def _config(folder: Path) -> PretrainedConfig:
    """The model's config.json.

    Raises:
        InputError: transformers cannot make a model of it.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, StrictDataclassError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{folder / 'config.json'}: not the configuration of a model: {why}") from None
    assert isinstance(config, PretrainedConfig)
    return config


def load_tokenizer(folder: Path, max_length: int) -> PreTrainedTokenizerBase:
    """The model's tokenizer.

    Raises:
        InputError: the model has fewer positions than `max_length`.
    """
    config = _config(folder)
    positions = getattr(config, "max_position_embeddings", max_length)
    if config.model_type in COUNTS_FROM_PADDING:
        positions -= config.pad_token_id + 1  # RoBERTa's first position stands behind the padding's
    if max_length > positions:
        raise InputError(f"max_length: found {max_length}; {folder} has positions for {positions} tokens")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def build_model(folder: Path, labels: list[Label], seed: int, pretrained: bool) -> PreTrainedModel:
    """The encoder with a new classification head, in fp32; its weights from the folder, or random.

    Raises:
        InputError: the folder's weights lack a part of the encoder.
    """
    transformers.set_seed(seed)  # the head's weights, and all others of the baseline
    names = {number: str(label) for number, label in enumerate(labels)}
    config = _config(folder)
    config.id2label, config.label2id = names, {name: number for number, name in names.items()}
    config.problem_type = "single_label_classification"
    if not pretrained:
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32, trust_remote_code=False)
        assert isinstance(model, PreTrainedModel)
        return model
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    encoder = f"{model.base_model_prefix}."  # a pooler is part of the head here: masked-language models have none
    missing = sorted(key for key in loading["missing_keys"] if key.startswith(encoder) and ".pooler." not in key)
    if missing:
        raise InputError(
            f"{folder}: its weights lack {missing[0]} and {len(missing) - 1} more of the encoder's tensors"
        )
    assert isinstance(model, PreTrainedModel)
    return model


def tokenise(
    path: Path, labels: list[Label], tokenizer: PreTrainedTokenizerBase, max_length: int, cache: Path
) -> datasets.Dataset:
    """A labelled set as token ids and class numbers, in memory-mapped Arrow files under `cache`."""
    numbers = {label: number for number, label in enumerate(labels)}

    def rows() -> Any:
        for text, label in read_examples(path):
            yield {"text": text, "labels": numbers[label]}

    def encode(batch: dict[str, list[Any]]) -> Any:
        return tokenizer(batch["text"], truncation=True, max_length=max_length)

    features = datasets.Features({"text": datasets.Value("string"), "labels": datasets.Value("int64")})
    # Both fingerprints are given because `datasets` would otherwise pickle the functions to hash them.
    read = datasets.Dataset.from_generator(rows, features=features, cache_dir=str(cache), fingerprint=cache.name)
    return read.map(encode, batched=True, remove_columns=["text"], new_fingerprint=f"{cache.name}-tokens")


class _Show(TrainerCallback):
    """The progress bar, and one line of scores an epoch."""

    def __init__(self, progress: Progress, task: TaskID, name: str, epochs: int) -> None:
        self.progress, self.task, self.name, self.of = progress, task, name, epochs
        self.epochs: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.update(self.task, total=state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.update(self.task, completed=state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        epoch = len(self.epochs) + 1
        scores = {key: float(found["metrics"][f"eval_{key}"]) for key in ("loss", "accuracy", "macro_f1")}
        if not math.isfinite(scores["loss"]):
            raise RunError(f"epoch {epoch}: the validation loss is {scores['loss']}: it diverged; lower learning_rate")
        self.epochs.append({"epoch": epoch, **scores})
        self.progress.console.print(
            f"{self.name}  epoch {epoch}/{self.of}  validation loss {scores['loss']:.3f}  "
            f"accuracy {scores['accuracy']:.3f}  macro-F1 {scores['macro_f1']:.3f}"
        )


def _arguments(config: FinetuneConfig, folder: Path) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=2 * config.batch_size,
        warmup_steps=config.warmup_fraction,  # below 1 it is a share of all steps
        weight_decay=config.weight_decay,
        lr_scheduler_type="linear",
        optim="adamw_torch",
        seed=config.seed,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one device: `batch_size` is an update's, whatever the machine has
    return arguments


def train(
    model: PreTrainedModel,
    config: FinetuneConfig,
    sets: dict[str, datasets.Dataset],
    tokenizer: PreTrainedTokenizerBase,
    scratch: Path,
    name: str,
    console: Console,
) -> list[dict[str, float]]:
    """Train `model` in place; returns an epoch's validation loss, accuracy and macro-F1, one entry an epoch."""

    def scores(prediction: EvalPrediction) -> dict[str, float]:
        return classification_scores(np.argmax(prediction.predictions, -1), np.asarray(prediction.label_ids))

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        show = _Show(progress, progress.add_task(name, total=None), name, config.epochs)
        trainer = Trainer(
            model=model,
            args=_arguments(config, scratch),
            train_dataset=sets["train"],
            eval_dataset=sets["valid"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=scores,
            callbacks=[show],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return show.epochs


def save(model: PreTrainedModel, source: Path, folder: Path) -> None:
    """Write the model, and the tokenizer's files as they are: saving it anew would change its fingerprint."""
    model.save_pretrained(folder)
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # which safetensors makes for its owner alone
    for pattern in ("tokenizer*", "special_tokens_map.json", "vocab.*", "merges.txt", "*.model"):
        for path in sorted(source.glob(pattern)):
            shutil.copyfile(path, folder / path.name)
