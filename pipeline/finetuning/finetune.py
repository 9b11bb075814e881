"""Fine-tuning: an exported model and labelled texts → a task model, its scores and its provenance.

The order of work: what can be wrong is looked at first, without torch; then training in a temporary folder beside the
output; then one rename.
"""

import importlib.metadata
import platform
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.errors import InputError
from pipeline.files import (
    describe_files,
    digest_of,
    file_sha256,
    publish_folder,
    read_json,
    work_folder,
    write_json,
)
from pipeline.finetuning.finetune_config import FinetuneConfig
from pipeline.finetuning.finetune_data import Label, classes, count_both
from pipeline.provenance import PROVENANCE, read_provenance, verify_provenance

KIND = "task model"
SCORES = "scores.json"
PACKAGES = ("kilobatch", "torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")


def _check_model(folder: Path) -> dict[str, Any] | None:
    """The model's provenance, if it has one, after its files were compared with it (laws 4 and 5).

    Raises:
        InputError: not a model folder. DigestError: its tokenizer or weights are not what its provenance names.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder / name}: no such file; model: expected a folder that `kilobatch export` wrote, or another of"
                " that form; nothing is downloaded"
            )
    return verify_provenance(folder)


def _recipe(config: FinetuneConfig) -> dict[str, Any]:
    """All that the result depends on: settings, and the digests of what is read (not where it lies)."""
    model = {name: file_sha256(config.model / name) for name in ("config.json", "model.safetensors", "tokenizer.json")}
    data = {"train": file_sha256(config.train), "valid": file_sha256(config.valid)}
    settings = config.model_dump(mode="json", exclude={"model", "output", "train", "valid"})
    return {"settings": settings, "model": model, "data": data}


def _up_to_date(output: Path, recipe: dict[str, Any]) -> bool:
    """Whether the output is there and came from this recipe.

    Raises:
        InputError: it is there and is something else. DigestError: its files are not what its provenance names.
    """
    if not output.exists():
        return False
    provenance = read_provenance(output)
    if provenance is None or provenance.get("kind") != KIND:
        raise InputError(f"{output}: exists and is not a task model; output: expected a name that is free")
    before = provenance.get("recipe", {})
    differing = [
        key
        for part in ("settings", "model", "data")
        for key in sorted(recipe[part])
        if before.get(part, {}).get(key) != recipe[part][key]
    ]
    if differing:
        raise InputError(
            f"{output}: exists, made with another {', '.join(differing)}; remove it or name another output"
        )
    verify_provenance(output)
    return True


def _train_all(config: FinetuneConfig, labels: list[Label], work: Path, console: Console) -> dict[str, Any]:
    """Train from the model's weights and, if asked, from random ones; write the former to WORK/model."""
    from pipeline.finetuning import classifier  # torch and transformers, once the input is known to be right

    classifier.quiet()
    classifier.use_all_cores()
    scratch = work / "scratch"
    tokenizer = classifier.load_tokenizer(config.model, config.max_length)
    sets = {
        split: classifier.tokenise(path, labels, tokenizer, config.max_length, scratch / split)
        for split, path in (("train", config.train), ("valid", config.valid))
    }
    runs = {}
    for name in ["pretrained", "random"] if config.baseline else ["pretrained"]:
        model = classifier.build_model(config.model, labels, config.seed, pretrained=name == "pretrained")
        runs[name] = classifier.train(model, config, sets, tokenizer, scratch, f"{name:10}", console)
        if name == "pretrained":
            classifier.save(model, config.model, work / "model")
    return runs


def _scores(runs: dict[str, Any], train: Counter[Label], valid: Counter[Label]) -> dict[str, Any]:
    """What scores.json holds: the last epoch counts, since choosing the best one would be choosing on `valid`."""
    scores: dict[str, Any] = {
        "labels": [str(label) for label in classes(train)],
        "examples": {"train": train.total(), "valid": valid.total()},
        "majority": {"accuracy": valid[train.most_common(1)[0][0]] / valid.total()},
        "epochs": runs,
        **{name: {key: epochs[-1][key] for key in ("accuracy", "macro_f1")} for name, epochs in runs.items()},
    }
    if "random" in runs:
        scores["margin"] = {key: scores["pretrained"][key] - scores["random"][key] for key in ("accuracy", "macro_f1")}
    return scores


def print_scores(scores: dict[str, Any], console: Console) -> None:
    """The final scores; against random weights when these were trained too."""
    for name in ("pretrained", "random", "margin"):
        if name in scores:
            sign = "+" if name == "margin" else ""
            accuracy, macro_f1 = scores[name]["accuracy"], scores[name]["macro_f1"]
            console.print(f"{name:10}  accuracy {accuracy:{sign}.3f}  macro-F1 {macro_f1:{sign}.3f}")
    console.print(f"{'majority':10}  accuracy {scores['majority']['accuracy']:.3f}")


def finetune(config: FinetuneConfig) -> Path:
    """Fine-tune, print validation scores an epoch, and write OUTPUT/: the model of the last epoch in Hugging Face
    format, the tokenizer, scores.json and provenance.json. An output that the same recipe made is left as it is.

    Raises:
        InputError: a missing or wrong model, data file or line; an output that something else made.
        DigestError: the model is not what its provenance names.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    model_provenance = _check_model(config.model)
    train, valid = count_both(config.train, config.valid)
    recipe = _recipe(config)
    if _up_to_date(config.output, recipe):
        console.print(f"{config.output}: up to date")
        print_scores(read_json(config.output / SCORES), console)
        return config.output
    with work_folder(config.output) as work:
        temporary = work / "model"
        scores = _scores(_train_all(config, classes(train), work, console), train, valid)
        write_json(temporary / SCORES, scores)
        provenance = {
            "kind": KIND,
            "model": model_provenance,
            "recipe": recipe,
            "recipe_digest": digest_of(recipe),
            "versions": {"python": platform.python_version()}
            | {package: importlib.metadata.version(package) for package in PACKAGES},
            "tokenizer": {"fingerprint": recipe["model"]["tokenizer.json"]},
            "files": describe_files(temporary, [path.name for path in temporary.iterdir()]),
        }
        write_json(temporary / PROVENANCE, provenance)
        publish_folder(temporary, config.output)
    print_scores(scores, console)
    console.print(f"{config.output}: written")
    return config.output
