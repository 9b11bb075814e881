"""Evaluation texts are found whatever their case and spacing, others never; the files are inputs like any other."""

import bz2
import gzip
import json
import random
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.shards import Corpus
from pipeline.errors import DigestError, InputError
from pipeline.files import file_sha256, read_json
from preprocess import evaluation, stages
from preprocess.clean import clean
from preprocess.config import CleanConfig, DecontaminateConfig
from preprocess.evaluation import Ngrams, list_files, write_ngrams
from preprocess.filters import judge
from preprocess.filters.contamination import Contamination
from preprocess.run import run
from tests.preprocess.small import prose, small_config, write_raw

N = 13
QUESTION = "Which of the rivers in the north of this country is the longest one that flows into the sea?"
WORDS = QUESTION.rstrip("?").split()


@pytest.fixture(scope="module")
def ngrams(tmp_path_factory: pytest.TempPathFactory) -> Ngrams:
    """Of one question of 18 words among thousands of invented ones."""
    folder = tmp_path_factory.mktemp("evaluation")
    lines = [{"passage": prose(seed), "choices": ["yes", {"no": prose(seed + 1000)}]} for seed in range(100)]
    lines.insert(40, {"question": QUESTION, "id": 7, "gold": None})
    (folder / "set.jsonl").write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    files = list_files(DecontaminateConfig(paths=[str(folder / "*")]))
    sha256 = write_ngrams(files, N, folder / "ngrams")
    assert sha256 == file_sha256(folder / "ngrams")
    return Ngrams(folder / "ngrams")


SPACES = st.sampled_from([" ", "\n\n", ", ", " – ", "… ", "\t", '" "'])


@given(
    st.integers(0, len(WORDS) - N),
    st.lists(st.tuples(SPACES, st.booleans()), min_size=N, max_size=N),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_planted_ngrams_are_always_found(
    ngrams: Ngrams, begin: int, manner: list[tuple[str, bool]], before: int, after: int
) -> None:
    draw = random.Random(before)
    other = ["".join(draw.choices("qxjzvw", k=6)) for _ in range(before + after)]
    planted = "".join(
        space + (word.upper() if upper else word)
        for word, (space, upper) in zip(WORDS[begin : begin + N], manner, strict=True)
    )
    found = ngrams.first_in(" ".join(other[:before]) + planted + ". " + " ".join(other[before:]), N)
    assert found is not None
    assert (found.word, found.file, found.line) == (before, 0, 81)


@given(st.integers(0, 10**6), st.integers(0, len(WORDS) - N + 1))
def test_fewer_words_and_unrelated_texts_are_never_found(ngrams: Ngrams, seed: int, begin: int) -> None:
    draw = random.Random(seed)
    other = ["".join(draw.choices("qxjzvw", k=6)) for _ in range(200)]
    text = " ".join([*other[:100], *WORDS[begin : begin + N - 1], *other[100:], *draw.sample(WORDS, len(WORDS) // 2)])
    assert ngrams.first_in(text, N) is None


SPELLED = (
    "Die schöne Müllerin läßt über fünfzig fließende Flüsse, Café, Ὀδυσσεύς, ĲSSEL und 12 Ångström an ½ Tagen in Hội An"
)
OTHERWISE: dict[str, Callable[[str], str]] = {
    **{form: partial(unicodedata.normalize, form) for form in ("NFC", "NFD", "NFKC", "NFKD")},  # type: ignore[arg-type]
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalnum() else c for c in text),
    "ligatures": lambda text: text.replace("fl", "ﬂ").replace("fi", "ﬁ"),
    "upper case": str.upper,
    "line ends": lambda text: text.replace(" ", "\r\n"),
    "soft hyphens": lambda text: text.replace("üll", "ü\u00adll").replace("ließ", "li\u200beß"),
    "byte order mark": lambda text: "\ufeff" + text,
    "wrong encoding": lambda text: text.encode().decode("latin-1"),
}


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
@pytest.mark.parametrize("there", OTHERWISE)
def test_texts_are_the_same_however_they_are_spelled(tmp_path: Path, form: str, there: str) -> None:
    cleaning = CleanConfig.model_validate({"unicode_form": form})
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.txt").write_text(OTHERWISE[there](SPELLED), encoding="utf-8", newline="")
    sets = contamination(tmp_path / "sets", cleaning)
    for spell in OTHERWISE.values():
        text = clean(f"Vorher stand das.\n\n{spell(SPELLED)}\n\nUnd dann dies.", "plain", cleaning).text
        found = "words 4 to 16 are in a.txt; expected no 13 words in a row of it"
        assert sets.refuse(text) == ("contaminated", found), spell


def test_an_evaluation_text_that_cannot_be_cleaned_is_named(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.jsonl").write_text(json.dumps("e" + 101 * "\u0300"))
    with pytest.raises(InputError, match=r"sets/a\.jsonl:1: over 100 combining marks in a row, from character 1 on$"):
        contamination(tmp_path / "sets")


def contamination(folder: Path, cleaning: CleanConfig | None = None, **config: Any) -> Contamination:
    decontaminate = DecontaminateConfig(paths=[str(folder / "*")], **config)
    files = list_files(decontaminate)
    ngrams = folder.with_name("ngrams")
    write_ngrams(files, decontaminate.ngram, ngrams, cleaning)
    return Contamination(decontaminate, Ngrams(ngrams), files)


def test_kinds_of_files_and_what_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sets"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one two three four\nfive six seven")
    (folder / "b.json").write_text(json.dumps({"data": [{"q": "red green blue black white", "id": "12"}]}))
    (folder / "c.jsonl.gz").write_bytes(
        gzip.compress(b'{"x": "too short"}\n["\\u6e05 \\u98ce \\u660e \\u6708 \\u591c"]')
    )
    sets = contamination(folder, ngram=5)
    assert "evaluation: 5 5-grams of 3 texts; 2 shorter texts are not looked for" in capsys.readouterr().err
    for text, found in (
        ("So: two, three, four, five, SIX", "words 2 to 6 are in a.txt; expected no 5 words in a row of it"),
        ("red-green-blue-black-white", "words 1 to 5 are in b.json; expected no 5 words in a row of it"),
        ("清风明月夜", "words 1 to 5 are in c.jsonl.gz, line 2; expected no 5 words in a row of it"),
        ("two three four six", None),
        ("too short", None),
        ("", None),
    ):
        assert sets.refuse(text) == (("contaminated", found) if found else None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"caf\xe9", r"a\.txt: not UTF-8"),
        ("a.jsonl", b'{}\n{"a": }\n', r"a\.jsonl:2: not JSON"),
        ("a.json", b"{", r"a\.json: not JSON"),
        ("a.jsonl", b"1" * 5000, r"a\.jsonl:1: not JSON"),
        ("a.jsonl.bz2", bz2.compress(b"1" * 5000)[:20], r"a\.jsonl\.bz2: truncated"),
        ("a.json", b"[" * 100_000, r"a\.json: not JSON"),
        ("a.txt", b"few words", r"filter\.decontaminate: no text of 13 words in 1 files"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        contamination(tmp_path / "sets")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"none\.txt: no such file, in source 'filter\.decontaminate'"):
        list_files(DecontaminateConfig(paths=[str(tmp_path / "none.txt")]))


def test_other_ngrams_than_the_driver_wrote_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.txt").write_text(QUESTION)
    contamination(tmp_path / "sets")
    with pytest.raises(DigestError, match="expected 00"):
        evaluation.load(str(tmp_path / "ngrams"), "00")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_raw(tmp_path / "raw")
    with (tmp_path / "raw" / "lines.jsonl").open("a") as file:
        for text in (f"{prose(501)} {QUESTION}", f"{prose(502)} {' '.join(WORDS[: N - 1])}"):
            file.write(json.dumps({"text": text}) + "\n")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.jsonl").write_text(json.dumps({"q": QUESTION}))
    return tmp_path / "raw"


def test_contaminated_documents_are_dead_letters_and_evaluation_files_inputs(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def config(name: str, sets: str = "sets", **changes: Any) -> Any:
        decontaminate = {"paths": [str(tmp_path / sets / "*")], **changes}
        return small_config(
            raw, tmp_path / name, filter={"decontaminate": decontaminate}, stages=str(tmp_path / "kept")
        )

    run(config("corpus"), ["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
    letters = [json.loads(line) for line in (tmp_path / "corpus/dead-letters/lines.jsonl").read_text().splitlines()]
    found = [(letter["id"], letter["stage"]) for letter in letters if letter["rule"] == "contaminated"]
    assert found == [("lines/lines.jsonl#11", "filter")]
    manifest = Corpus(tmp_path / "corpus").manifest
    assert manifest["counts"]["dead_letters"]["contaminated"] == 1
    assert manifest["counts"]["kept"] == 26
    inputs = {entry["name"]: entry for entry in manifest["inputs"] if entry["source"] == "filter.decontaminate"}
    assert inputs["a.jsonl"]["sha256"] == file_sha256(tmp_path / "sets" / "a.jsonl")
    assert str(tmp_path) not in (tmp_path / "corpus" / "manifest.json").read_text()

    (tmp_path / "sets").rename(tmp_path / "moved")
    capsys.readouterr()
    run(config("corpus", "moved"))
    assert "up to date" in capsys.readouterr().err
    run(config("again", "moved"))
    assert capsys.readouterr().err.count("made by an earlier run") == 3
    (tmp_path / "moved" / "a.jsonl").write_text(json.dumps({"q": "Another " + QUESTION}))
    with pytest.raises(InputError, match="it differs in inputs; give"):
        run(config("corpus", "moved"))
    run(config("other", "moved"))
    assert "made by an earlier run" not in capsys.readouterr().err
    assert read_json(tmp_path / "other" / "manifest.json")["counts"]["kept"] == 26
    run(config("books", "moved", sources=["books"]))
    assert read_json(tmp_path / "books" / "manifest.json")["counts"]["kept"] == 27


def test_the_key_of_a_stage_follows_from_the_evaluation_files(raw: Path, tmp_path: Path) -> None:
    config = small_config(raw, tmp_path / "corpus")
    files = list_files(DecontaminateConfig(paths=[str(tmp_path / "sets" / "*")]))
    assert stages.key_of("documents", config, files) != stages.key_of("documents", config, [])


def test_rules_before_it_are_asked_first(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.txt").write_text(QUESTION)
    sets = contamination(tmp_path / "sets")
    strict = small_config(tmp_path, tmp_path, filter={"min_characters": 1000}).filter
    assert judge(QUESTION, "web", strict, sets).refusal == ("too-short", "92 characters, expected at least 1000")
    open_ = small_config(tmp_path, tmp_path, filter={"min_characters": 1}).filter
    refusal = judge(QUESTION, "web", open_, sets).refusal
    assert refusal is not None
    assert refusal[0] == "contaminated"
