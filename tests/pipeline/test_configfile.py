"""Configuration: numbers are numbers, values arrive where they belong, and what is written is read back."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from pipeline.configfile import Config, dump_config, load_config
from pipeline.errors import InputError


class Books(Config):
    type: Literal["books"] = "books"
    paths: list[str] = Field(default_factory=list)


class Dump(Config):
    type: Literal["dump"] = "dump"
    path: Path = Path("dump.xml")
    stream: int | None = None


class Inner(Config):
    rate: float = 0.5
    count: int = 1
    x: dict[str, dict[str, int]] = Field(default_factory=dict)


class Settings(Config):
    rate: float = 1.0
    count: int = 1
    name: str | None = None
    flag: bool = False
    folder: Path = Path("folder")
    inner: Inner = Inner()
    sources: list[Annotated[Books | Dump, Field(discriminator="type")]] = Field(default_factory=list)
    grid: list[list[int]] = Field(default_factory=list)


def load(tmp_path: Path, text: str, *overrides: str) -> Settings:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(Settings, path, overrides)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("2e5", 2e5),
        ("2E5", 2e5),
        (".5", 0.5),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("1_000", 1000.0),
        ("1_000.5", 1000.5),
        ("+1.5e+3", 1500.0),
        ("7", 7.0),
        ("6.02e23", 6.02e23),
    ],
)
def test_numbers_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert load(tmp_path, f"rate: {text}").rate == value
    assert load(tmp_path, "", f"rate={text}").rate == value


@pytest.mark.parametrize("text", ["'1e-3'", "1e", "e5", ".", "1.2.3", "1e-3x", "true", "[1]", ".nan", ".inf", "-.inf"])
def test_what_is_no_finite_number_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"settings\.yaml:1: rate: found "):
        load(tmp_path, f"rate: {text}")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_as_it_is_printed(tmp_path_factory: pytest.TempPathFactory, value: float) -> None:
    assert load(tmp_path_factory.mktemp("float"), f"rate: {value!r}").rate == value


@pytest.mark.parametrize("text", ["1.5", "1e3", "2.0", "'3'", "true"])
def test_what_is_no_whole_number_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"settings\.yaml:1: count: found "):
        load(tmp_path, f"count: {text}")


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("count=3", ["count"], 3),
        ("count=1_000", ["count"], 1000),
        ("name=a=b", ["name"], "a=b"),
        ("name=", ["name"], None),
        ("name='3'", ["name"], "3"),
        ("flag=true", ["flag"], True),
        ("folder=/a/b", ["folder"], Path("/a/b")),
        ("inner.rate=1e-3", ["inner", "rate"], 1e-3),
        ("inner={count: 5}", ["inner", "count"], 5),
        ("inner.x.x.x=1", ["inner", "x"], {"x": {"x": 1}}),  # equal keys one below the other
        ("grid.0.0=9", ["grid"], [[9, 2], [3]]),
        ("grid.1=[]", ["grid"], [[1, 2], []]),
        ("sources.1.stream=4", ["sources", 1, "stream"], 4),
        ("sources.0={type: books, paths: [b]}", ["sources", 0, "paths"], ["b"]),
    ],
)
def test_overrides(tmp_path: Path, override: str, path: list[str | int], value: Any) -> None:
    text = "name: x\ngrid: [[1, 2], [3]]\nsources: [{type: books, paths: [a]}, {type: dump}]"
    found: Any = load(tmp_path, text, override)
    for key in path:
        found = found[key] if isinstance(key, int) else getattr(found, key)
    assert found == value


def test_overrides_leave_the_rest_and_the_last_one_holds(tmp_path: Path) -> None:
    settings = load(tmp_path, "inner: {count: 5}\n", "inner.rate=2", "count=3", "count=4")
    assert (settings.inner.count, settings.inner.rate, settings.count) == (5, 2.0, 4)


def test_an_override_fills_in_what_is_null(tmp_path: Path) -> None:
    assert load(tmp_path, "inner:\n", "inner.count=2").inner.count == 2


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}", "\ufeffcount: 1\n"])
def test_an_empty_file_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == Settings()


def test_the_union_takes_the_type_that_is_named(tmp_path: Path) -> None:
    sources = load(tmp_path, "sources: [{type: dump, path: a.xml}, {type: books}]").sources
    assert sources == [Dump(path=Path("a.xml")), Books()]


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().count = 2  # type: ignore[misc]


LOOKS_LIKE_MORE = st.sampled_from(["1e-3", "1e5", "no", "null", "~", "2001-01-01", "0x1F", "1_000", ".5"])
SOURCES = st.one_of(
    st.builds(Dump, path=LOOKS_LIKE_MORE.map(Path), stream=st.none() | st.integers(0, 9)),
    st.builds(Books, paths=st.lists(st.text(st.characters(codec="utf-8"), max_size=3), max_size=2)),
)
CONFIGS = st.builds(
    Settings,
    rate=st.floats(allow_nan=False, allow_infinity=False),
    count=st.integers(-(2**70), 2**70),
    name=st.none() | st.text(st.characters(codec="utf-8"), max_size=12) | LOOKS_LIKE_MORE,
    folder=LOOKS_LIKE_MORE.map(Path) | st.just(Path("/a b/é")),
    inner=st.builds(Inner, rate=st.just(1e-3)),
    sources=st.lists(SOURCES, max_size=3),
    grid=st.lists(st.lists(st.integers(), max_size=2), max_size=2),
)


@given(CONFIGS)
def test_what_is_dumped_is_read_back(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> None:
    text = dump_config(settings)
    again = load(tmp_path_factory.mktemp("dump"), text)
    assert again == settings
    assert dump_config(again) == text
