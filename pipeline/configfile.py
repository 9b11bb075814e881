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
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import InputError, nearest

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]  # at 1 nothing is left, and what is left is scaled by 1 ÷ 0


class Config(BaseModel):
    """Base of all configuration: frozen, no unknown keys, finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


C = TypeVar("C", bound=Config)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with the numbers people write, no silent duplicate keys, and errors that have a place."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (
            ValueError,
            LookupError,
            AttributeError,
        ):  # 2024-99-99, 0x_, !!bool maybe: text that its tag does not fit
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value[:40]!r} is not a valid {kind}", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node)
            if not isinstance(key, str | int | float):
                raise yaml.constructor.ConstructorError(None, None, "a key is not plain text", key_node.start_mark)
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


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for a number."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


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
    except RecursionError:
        raise InputError(f"{where}: not YAML: nested too deeply") from None


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


def _models_at(model: type[BaseModel], location: Sequence[str | int]) -> list[type[BaseModel]]:
    """The models that may stand where `location` leads; list positions are passed over, a union's tag picks one."""
    models = [model]
    for key in location:
        inner = [
            m for model in models if key in model.model_fields for m in _models(model.model_fields[str(key)].annotation)
        ]
        models = (
            inner
            or [m for m in models if m.model_fields.get("type") and m.model_fields["type"].default == key]
            or models
        )
    return models


def _written(location: Sequence[str | int], values: Any) -> tuple[list[str | int], Any]:
    """What a person wrote of a location of pydantic's, in which the tags of unions stand too; and the value there."""
    keys: list[str | int] = []
    for key in location:
        if isinstance(values, dict) and key not in values:
            continue
        if isinstance(values, dict) or (isinstance(values, list) and isinstance(key, int)):
            values = values[key]  # type: ignore[index]
            keys.append(key)
    return keys, values


def _explain(
    error: ValidationError,
    model: type[BaseModel],
    path: Path,
    node: yaml.Node | None,
    values: Any,
    overrides: Sequence[str],
) -> str:
    """One complaint of pydantic as one line: place: key: what was found, what is accepted."""
    complaints = error.errors(include_url=False)  # a misspelt key also makes the right one missing: name the misspelt
    first = min(complaints, key=lambda complaint: complaint["type"] != "extra_forbidden")
    kind, location = first["type"], first["loc"]
    keys, found = _written(location, values)
    if kind.startswith("union_tag"):
        tags = [str(m.model_fields["type"].default) for m in _models_at(model, location)]
        keys.append("type")
    elif kind == "missing":
        keys.append(location[-1])
    dotted = ".".join(map(str, keys))
    place = _place(path, node, keys, overrides, unknown=kind == "extra_forbidden")
    if kind == "extra_forbidden":
        accepted = {name for m in _models_at(model, location[:-1]) for name in m.model_fields}
        return f"{place}: unknown key {dotted!r}{nearest(str(keys[-1]), accepted)}"
    if kind == "missing":
        return f"{place}: key {dotted!r} is missing"
    if kind == "union_tag_not_found":
        return f"{place}: key {dotted!r} is missing{nearest('', tags)}"
    if kind == "union_tag_invalid":
        return f"{place}: {dotted}: found {found['type']!r}{nearest(str(found['type']), tags)}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error":  # raised by a validator of ours, whose message says what was found
        return f"{place}: {dotted + ': ' if dotted else ''}{message}"
    found_text = type(found).__name__ if isinstance(found, (dict, list)) else repr(found)
    return f"{place}: {dotted}: found {found_text}; expected {message}"


def _place(
    path: Path, node: yaml.Node | None, keys: Sequence[str | int], overrides: Sequence[str], unknown: bool
) -> str:
    """The override that set a key (or, of an unknown key, something in it), else the line of the file."""
    dotted = ".".join(map(str, keys)) + "."
    for override in reversed(overrides):
        name = override.partition("=")[0] + "."
        if dotted.startswith(name) or (unknown and name.startswith(dotted)):
            return f"override {override!r}"
    line = _line_of(node, keys)
    return f"{path}:{line}" if line else str(path)


def _override(values: dict[str, Any], override: str) -> None:
    """Set `a.b.c=value` in nested dictionaries; the value is read as YAML. List positions are numbers."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"override {override!r}: expected key=value, such as optimizer.learning_rate=1e-3")
    *parents, last = dotted.split(".")
    here: Any = values
    for key in parents:
        position = _position(here, key, override)
        if isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
        here = here[position]
    here[_position(here, last, override)] = _parse(text, f"override {override!r}")[0]


def _position(here: Any, key: str, override: str) -> str | int:
    """The key of a dictionary or the position in a list that one part of an override names."""
    if isinstance(here, dict):
        return key
    if not isinstance(here, list):
        raise InputError(f"override {override!r}: {key!r} is looked for inside a plain value")
    if not key.isdecimal() or int(key) >= len(here):
        raise InputError(f"override {override!r}: {key!r} is not a position in a list of {len(here)}")
    return int(key)


def load_config(model: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Read a YAML file, apply overrides, validate.

    Raises:
        InputError: no such file, not YAML, an unknown, missing or wrong key; the first of them, as one line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; expected a YAML configuration") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a YAML configuration") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None
    values, node = _parse(text, str(path))
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, found {type(values).__name__}")
    for override in overrides:
        _override(values, override)
    try:
        document = json.dumps(values, default=str, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # a value that contains itself, half of a surrogate pair
        raise InputError(f"{path}: not YAML: {error}") from None
    try:
        return model.model_validate_json(document)  # JSON mode: text may become a Path
    except ValidationError as error:
        raise InputError(_explain(error, model, path, node, json.loads(document), overrides)) from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML that `load_config` reads back to the same model."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
