"""Labelled sets: JSONL, one object a line with `text` and `label`; every wrong line is named by its number.

The lines are parsed here rather than by `datasets`' JSON reader, which takes texts that look like dates for timestamps
and refuses a file whose other keys change type.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, nearest

Label = str | int


def _field(row: dict[str, Any], key: str, place: str) -> Any:
    if key not in row:
        found = ", ".join(sorted(map(repr, row))) or "no key"
        raise InputError(f"{place}: no {key!r}; found {found}; expected an object with 'text' and 'label'")
    return row[key]


def _example(line: bytes, place: str) -> tuple[str, Label]:
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON: {error}; expected one object a line with 'text' and 'label'") from None
    if not isinstance(row, dict):
        raise InputError(f"{place}: found {type(row).__name__}; expected an object with 'text' and 'label'")
    text, label = _field(row, "text", place), _field(row, "label", place)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{place}: text: found {text!r}; expected a text that is not empty")
    for key, value in (("text", text), ("label", str(label))):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
            raise InputError(f"{place}: {key}: half a surrogate pair at character {error.start}") from None
    if isinstance(label, bool) or not isinstance(label, (str, int)) or label == "":
        raise InputError(f"{place}: label: found {label!r}; expected a text or a whole number")
    return text, label


def _numbered(path: Path) -> Iterator[tuple[int, str, Label]]:
    """(line number, text, label); see `read_examples`."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or 'unreadable').lower()}; expected a JSONL file") from None
    with file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, *_example(line, f"{path}:{number}")


def read_examples(path: Path) -> Iterator[tuple[str, Label]]:
    """The (text, label) pairs of a file, in its order; blank lines are passed over.

    Raises:
        InputError: no such file, or the first line that is not an example.
    """
    return ((text, label) for _, text, label in _numbered(path))


def count_labels(path: Path) -> Counter[Label]:
    """How many examples each label has.

    Raises:
        InputError: as `read_examples`; no example; labels of two types.
    """
    counts = Counter(label for _, label in read_examples(path))
    if not counts:
        raise InputError(f"{path}: no examples; expected one object a line with 'text' and 'label'")
    if len({type(label) for label in counts}) > 1:
        found = next(label for label in counts if isinstance(label, int))
        raise InputError(f"{path}: label {found} is a number and others are text; expected one type throughout")
    return counts


def classes(counts: Counter[Label]) -> list[Label]:
    """The labels in order, numbers by value; a label's class is its position."""
    return sorted(counts, key=lambda label: (label, "") if isinstance(label, int) else (0, label))


def count_both(train: Path, valid: Path) -> tuple[Counter[Label], Counter[Label]]:
    """The label counts of both sets.

    Raises:
        InputError: as `count_labels`; one label only in train; a label of valid that train lacks.
    """
    known, seen = count_labels(train), count_labels(valid)
    if len(known) < 2:
        raise InputError(f"{train}: one label only, {next(iter(known))!r}; expected two or more")
    if set(seen) - set(known):
        number, label = next((number, label) for number, _, label in _numbered(valid) if label not in known)
        hint = nearest(str(label), map(str, known))
        raise InputError(f"{valid}:{number}: label {label!r} does not occur in {train}{hint}")
    return known, seen
