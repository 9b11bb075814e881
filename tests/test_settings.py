"""Every setting that there is stands in the documentation, with its default."""

import json
import re
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.configfile import Config, load_config
from pipeline.finetuning.finetune_config import FinetuneConfig
from pipeline.pretrain_config import PretrainConfig
from preprocess.config import CorpusConfig

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation):
        return [model for part in typing.get_args(annotation) for model in models_of(part)]
    return []


def shown(value: Any) -> str:
    """A default as a person writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(part)}" for key, part in value.items()) + "}"
    return "none" if value is None else '""' if value == "" else json.dumps(value).strip('"')


def same(text: str) -> str | float:
    """One spelling of a number: 1e-5 and 0.00001, 8_000 and 8000."""
    try:
        return float(text)
    except ValueError:
        return text


def defaults(model: type[BaseModel], prefix: str = "") -> dict[str, set[str | float]]:
    """Dotted key → its defaults: several where types of a section differ in it."""
    found: dict[str, set[str | float]] = {}
    for name, field in model.model_fields.items():
        sections = [] if name == "init_from" else models_of(field.annotation)  # a path, to whoever writes it
        if not sections:
            found.setdefault(prefix + name, set()).add(same("–" if field.is_required() else shown(field.default)))
        for section in sections:
            for key, values in defaults(section, f"{prefix}{name}.").items():
                found.setdefault(key, set()).update(values)
    return found


def documented(page: str, heading: str) -> dict[str, set[str | float]]:
    """The same by a chapter's tables, of which a line may be of several keys and name several defaults."""
    chapters = re.split(r"^## ", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    (chapter,) = (chapter for chapter in chapters if chapter.startswith(heading))
    rows = re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", chapter, re.MULTILINE)
    return {key: set(map(same, values.split(" or "))) for keys, values in rows for key in keys.split("`")[1::2]}


@pytest.mark.parametrize(
    ("page", "heading", "model"),
    [
        ("settings.md", "Corpus", CorpusConfig),
        ("settings.md", "Pretraining", PretrainConfig),
        ("finetune.md", "The settings", FinetuneConfig),
    ],
)
def test_every_setting_is_documented_with_its_default(page: str, heading: str, model: type[BaseModel]) -> None:
    assert documented(page, heading) == defaults(model)


@pytest.mark.parametrize(
    ("folder", "model"), [("corpus", CorpusConfig), ("pretrain", PretrainConfig), ("finetune", FinetuneConfig)]
)
def test_every_example_is_a_sound_configuration(folder: str, model: type[Config]) -> None:
    for path in (ROOT / "configs" / folder).iterdir():
        load_config(model, path)
