"""One YAML file and `key=value` overrides → one frozen, strict model; every mistake is one line with its place.

A configuration class derives from `Config`. Unknown keys are errors that offer the nearest name, types are not
coerced beyond int → float and str → Path, and numbers such as `1e-3` are numbers (YAML 1.1 reads them as text).
"""

import json
import re
import types
import typing
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import InputError, nearest


class Config(BaseModel):
    """Base of all configuration: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


C = TypeVar("C", bound=Config)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with the numbers people write and without silent duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf|\.nan)$"
    ),
    list("-+0123456789."),
)


def _parse(text: str, where: str) -> tuple[Any, yaml.Node | None]:
    """A YAML text's value and its node tree (for line numbers)."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (loader.construct_document(node) if node is not None else None), node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}" if mark else where
        raise InputError(f"{place}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {str(error).splitlines()[0]}") from None


def _line_of(node: yaml.Node | None, keys: Sequence[str | int]) -> int | None:
    """The line on which the deepest existing key of a path stands."""
    line = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(key):
                    line, node = key_node.start_mark.line + 1, value_node
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
    return line


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models an annotation can hold, through Optional, unions, lists and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation):
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []


def _fields_at(model: type[BaseModel], keys: Sequence[str | int]) -> set[str]:
    """The names accepted where `keys` leads (list positions and union tags are passed over)."""
    models = [model]
    for key in keys:
        inner = [
            m for model in models if key in model.model_fields for m in _models(model.model_fields[str(key)].annotation)
        ]
        models = (
            inner
            or [m for m in models if m.model_fields.get("type") and m.model_fields["type"].default == key]
            or models
        )
    return {name for m in models for name in m.model_fields}


def _explain(error: ValidationError, model: type[BaseModel], path: Path, node: yaml.Node | None) -> str:
    """One complaint of pydantic as one line: file:line: key: what was found, what is accepted."""
    complaints = error.errors(include_url=False)  # a misspelt key also makes the right one missing: name the misspelt
    first = min(complaints, key=lambda complaint: complaint["type"] != "extra_forbidden")
    keys = [key for key in first["loc"] if isinstance(key, int) or "[" not in key]
    dotted = ".".join(map(str, keys))
    line = _line_of(node, keys)
    place = f"{path}:{line}" if line else str(path)
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown key {dotted!r}{nearest(str(keys[-1]), _fields_at(model, keys[:-1]))}"
    if first["type"] == "missing":
        return f"{place}: key {dotted!r} is missing"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "value_error":  # raised by a validator of ours, whose message says what was found
        return f"{place}: {dotted + ': ' if dotted else ''}{message}"
    found = first["input"]
    found_text = type(found).__name__ if isinstance(found, (dict, list)) else repr(found)
    return f"{place}: {dotted}: found {found_text}; expected {message}"


def _override(values: dict[str, Any], override: str) -> None:
    """Set `a.b.c=value` in nested dictionaries; the value is read as YAML. List positions are numbers."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"override {override!r}: expected key=value, such as optimizer.learning_rate=1e-3")
    *parents, last = dotted.split(".")
    here: Any = values
    for key in [*parents, last]:
        if isinstance(here, list):
            if not key.isdigit() or int(key) >= len(here):
                raise InputError(f"override {override!r}: {key!r} is not a position in a list of {len(here)}")
        elif not isinstance(here, dict):
            raise InputError(f"override {override!r}: {key!r} is looked for inside a plain value")
        if key is last:
            break
        if isinstance(here, list):
            here = here[int(key)]
        else:
            if here.get(key) is None:
                here[key] = {}
            here = here[key]
    here[int(last) if isinstance(here, list) else last] = _parse(text, f"override {override!r}")[0]


def load_config(model: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Read a YAML file, apply overrides, validate.

    Raises:
        InputError: no such file, not YAML, an unknown, missing or wrong key; the first of them, as one line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InputError(f"{path}: no such file; expected a YAML configuration") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None
    values, node = _parse(text, str(path))
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, found {type(values).__name__}")
    for override in overrides:
        _override(values, override)
    try:
        return model.model_validate_json(json.dumps(values, default=str))  # JSON mode: text may become a Path
    except ValidationError as error:
        raise InputError(_explain(error, model, path, node)) from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML that `load_config` reads back to the same model."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
