"""Mistakes in a configuration: one line each, with the place, what was found and what is accepted."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configfile import load_config
from pipeline.errors import InputError, UserError
from tests.pipeline.test_configfile import Settings

TEXT = """\
rate: 0.5
inner:
  count: 3
sources:
- type: books
  paths: [a, b]
- type: dump
  path: x
"""


def complaint(tmp_path: Path, text: str | bytes, *overrides: str) -> str:
    """The message about a configuration, without its path: `line: …` or `: …`, checked to be one line."""
    path = tmp_path / "settings.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError) as caught:
        load_config(Settings, path, overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "Traceback" not in message
    assert "pydantic" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("rate: 0.5", "rates: 0.5", ":1: unknown key 'rates'; did you mean 'rate'?"),
        ("  count: 3", "  cuont: 3", ":3: unknown key 'inner.cuont'; did you mean 'count'?"),
        ("  count: 3", "  zzz: 3", ":3: unknown key 'inner.zzz'; accepted: count, rate, x"),
        ("  paths: [a, b]", "  path: [a]", ":6: unknown key 'sources.0.path'; did you mean 'paths'?"),
        ("  path: x", "  paths: x", ":8: unknown key 'sources.1.paths'; did you mean 'path'?"),
        ("rate: 0.5", "rate: fast", ":1: rate: found 'fast'; expected a valid number"),
        ("  count: 3", "  count: 3.5", ":3: inner.count: found 3.5; expected a valid integer"),
        ("  count: 3", "  count: {}", ":3: inner.count: found dict; expected a valid integer"),
        ("  path: x", "  path: [x]", ":8: sources.1.path: found list; expected "),
        ("  paths: [a, b]", "  paths:\n  - a\n  - 2", ":8: sources.0.paths.1: found 2; expected a valid string"),
        ("- type: dump", "- type: dmup", ":7: sources.1.type: found 'dmup'; did you mean 'dump'?"),
        ("- type: dump", "- stream: 1", ":7: key 'sources.1.type' is missing; accepted: books, dump"),
        ("- type: dump", "- type: 7", ":7: sources.1.type: found 7; accepted: books, dump"),
        ("rate: 0.5", "rate: 0.5\nrate: 0.6", ":2: not YAML: key 'rate' is given twice"),
        ("  count: 3", "  count: 3\n  'count': 4", ":4: not YAML: key 'count' is given twice"),
        ("  count: 3", " - count: 3\n  x", ":4: not YAML: "),
        ("rate: 0.5", "rate: [0.5", ":2: not YAML: "),
        ("rate: 0.5", "\trate: 0.5", ":1: not YAML: "),
        ("rate: 0.5", "rate: *nowhere", ":1: not YAML: found undefined alias"),
        ("rate: 0.5", "rate: &a [*a]", ": not YAML: "),
        ("rate: 0.5", "? [rate]\n: 0.5", ":1: not YAML: a key is not plain text"),
        ("rate: 0.5", "2024-01-01: 0.5", ":1: not YAML: a key is not plain text"),
        ("rate: 0.5", "7: 0.5", ":1: unknown key '7'; accepted: "),
        ("rate: 0.5", "rate: 2024-99-99", ":1: not YAML: '2024-99-99' is not a valid "),
        ("rate: 0.5", "rate: 0x_", ":1: not YAML: '0x_' is not a valid "),
        ("rate: 0.5", f"rate: {'9' * 5000}", f":1: not YAML: '{'9' * 40}' is not a valid int"),
        ("rate: 0.5", "rate: 0.5\x07", ": not YAML: "),
        ("rate: 0.5", "rate: !!bool maybe", ":1: not YAML: 'maybe' is not a valid bool"),
        ("rate: 0.5", "rate: !!timestamp x", ":1: not YAML: 'x' is not a valid timestamp"),
        ("rate: 0.5", "rate: !!int ''", ":1: not YAML: '' is not a valid int"),
        ("rate: 0.5", 'rate: "\\ud800"', ": not YAML: "),
        ("rate: 0.5", f"rate: {'[' * 5000}", ": not YAML: nested too deeply"),
        ("rate: 0.5", "'ra[te': 0.5", ":1: unknown key 'ra[te'; did you mean 'rate'?"),
        ("rate: 0.5", "~: 0.5", ":1: not YAML: a key is not plain text"),
    ],
)
def test_mistakes(tmp_path: Path, line: str, instead: str, message: str) -> None:
    assert line in TEXT
    assert complaint(tmp_path, TEXT.replace(line, instead, 1)).startswith(message)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object:pathlib.Path {}",
        "!!python/object/apply:os.getcwd []",
        "!!python/name:os.system ''",
        "!!python/tuple [1]",
        "!mine x",
    ],
)
def test_tags_build_nothing(tmp_path: Path, tag: str) -> None:
    assert complaint(tmp_path, f"count: 1\nname: {tag}").startswith(":2: not YAML: could not determine a constructor")
    assert ":1: not YAML: could not determine a constructor" in complaint(tmp_path, "", f"name={tag}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("count", "override 'count': expected key=value"),
        ("=3", "override '=3': expected key=value"),
        ("", "override '': expected key=value"),
        ("rate.deep=3", "override 'rate.deep=3': 'deep' is looked for inside a plain value"),
        ("rate.a.b=3", "override 'rate.a.b=3': 'a' is looked for inside a plain value"),
        ("sources.2.path=x", "override 'sources.2.path=x': '2' is not a position in a list of 2"),
        ("sources.-1.path=x", "override 'sources.-1.path=x': '-1' is not a position in a list of 2"),
        ("sources.first=x", "override 'sources.first=x': 'first' is not a position in a list of 2"),
        ("sources.²=x", "override 'sources.²=x': '²' is not a position in a list of 2"),
        ("rate=[1", "override 'rate=[1':1: not YAML: "),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, message: str) -> None:
    assert complaint(tmp_path, TEXT, override).startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rates=1", "unknown key 'rates'; did you mean 'rate'?"),
        ("rate=fast", "rate: found 'fast'; expected a valid number"),
        ("inner.count=x", "inner.count: found 'x'; expected a valid integer"),
        ("inner={cuont: 3}", "unknown key 'inner.cuont'; did you mean 'count'?"),
        ("sources.1.paths=x", "unknown key 'sources.1.paths'; did you mean 'path'?"),
        ("iner.rate=1", "unknown key 'iner'; did you mean 'inner'?"),
        ("rate=", "rate: found None; expected a valid number"),
    ],
)
def test_a_wrong_override_is_not_blamed_on_a_line_of_the_file(tmp_path: Path, override: str, message: str) -> None:
    assert complaint(tmp_path, TEXT, "inner.rate=1", override).startswith(f"override {override!r}: {message}")


def test_missing_keys_are_named(tmp_path: Path) -> None:
    from pipeline.pretrain_config import PretrainConfig

    path = tmp_path / "pretrain.yaml"
    path.write_text("corpus: c\noutput: o\ndeepspeed: d\noptimizer: {learning_rate: 1}\nbatch:\n  sequence_length: 8\n")
    with pytest.raises(InputError) as caught:
        load_config(PretrainConfig, path)
    assert str(caught.value) == f"{path}:5: key 'batch.train_batch_size' is missing"


def test_a_misspelt_key_is_named_rather_than_the_one_that_it_leaves_missing(tmp_path: Path) -> None:
    from pipeline.pretrain_config import PretrainConfig

    path = tmp_path / "pretrain.yaml"
    path.write_text("corpus: c\nouptut: o\n")
    with pytest.raises(InputError) as caught:
        load_config(PretrainConfig, path)
    assert str(caught.value) == f"{path}:2: unknown key 'ouptut'; did you mean 'output'?"


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    assert complaint(tmp_path, b"name: \xff\n") == ": not UTF-8 at byte 6"
    assert complaint(tmp_path, "- 1\n- 2\n") == ": expected keys and values, found list"
    assert complaint(tmp_path, "just text") == ": expected keys and values, found str"
    assert complaint(tmp_path, "a: 1\n---\nb: 2\n").startswith(":2: not YAML: ")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    for path in (tmp_path / "nothing.yaml", tmp_path, tmp_path / "settings.yaml" / "x", tmp_path / "loop.yaml"):
        with pytest.raises(InputError) as caught:
            load_config(Settings, path)
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).endswith("; expected a YAML configuration")


@given(st.text(st.sampled_from("ab:-[]{}\n\t '\"&*!|>%@`#?,0.e_=~<x"), max_size=40), st.booleans())
def test_no_text_is_answered_with_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str, below: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(f"inner:\n  {text}" if below else text)
    try:
        load_config(Settings, path, [text] if below else [f"a={text}"])
        return
    except UserError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
