"""What preprocessing refuses to make a corpus of: one line each, and nothing is left."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.shards import Corpus
from pipeline.errors import DigestError, InputError
from pipeline.files import TEMPORARY
from preprocess import tokens
from preprocess.encode import Encoded, Encoder
from preprocess.run import run
from tests.preprocess.small import prose, small_config, write_raw


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder)
    return folder


def fails(raw: Path, tmp_path: Path, message: str, **changes: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run(small_config(raw, tmp_path / "corpus", **changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "corpus").exists()
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))


@pytest.mark.parametrize(
    "name", ["file/corpus", "file/deeper/corpus", "/proc/x", "/proc/x/y", "a\0b", "a\0b/c", "x" * 300]
)
def test_outputs_that_cannot_be_made(raw: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"output: cannot make .*: \w.*") as caught:
        run(small_config(raw, tmp_path / name))
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_digest_error_in_a_task_is_one(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokens = tokens.write_tokens
    monkeypatch.setattr(tokens, "write_tokens", lambda n, work, digest: write_tokens(n, work, "0" * 64))
    with pytest.raises(DigestError, match=r"^[^\n]*tokenizer\.json: SHA-256 \w+, expected 0+$"):
        run(small_config(raw, tmp_path / "corpus"))
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.stages"]


def test_inputs_that_cannot_become_a_corpus(raw: Path, tmp_path: Path) -> None:
    dump = tmp_path / "cut.bz2"
    dump.write_bytes((raw / "wiki.xml.bz2").read_bytes()[:-200])
    fails(raw, tmp_path, r"cut\.bz2: truncated", sources=[{"type": "wikipedia", "paths": [str(dump)]}])
    latin = [{"type": "text", "paths": [str(raw / "books" / "latin1.txt")]}]
    fails(raw, tmp_path, "no valid document in 1 input files; found 1 not-utf-8", sources=latin)
    fails(raw, tmp_path, "the valid split is empty: none of 26 documents", split={"valid": 1e-9})
    fails(raw, tmp_path, "the train split is empty", split={"valid": 1 - 1e-9})
    fails(raw, tmp_path, r"can have \d+ at most", tokenizer={"vocab_size": 20000, "sample_characters": 40000})


def test_sources_that_yield_too_little(raw: Path, tmp_path: Path) -> None:
    few = [{"type": "books", "paths": [str(raw / "books" / "*.txt")], "min_documents": 5}]
    fails(raw, tmp_path, "source 'books' yields 4 documents, its min_documents is 5", sources=few)
    message = "source 'books': 1 of 7 texts cannot be read or cleaned, over dead_letters.max_share=0.1"
    fails(raw, tmp_path, message, dead_letters={"max_share": 0.1})


def test_a_source_that_yields_too_few_tokens(raw: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps({"text": prose(n % 20)}) + "\n" for n in range(40)))
    source = {"type": "jsonl", "paths": [str(lines)], "min_tokens": 10**6}
    with pytest.raises(InputError, match=r"source 'jsonl' yields \d+ tokens, its min_tokens is 1000000$") as caught:
        run(small_config(raw, tmp_path / "corpus", sources=[source]))
    found = int(re.findall(r"yields (\d+)", str(caught.value))[0])
    fails(raw, tmp_path, f"yields {found} tokens", sources=[{**source, "min_tokens": found + 1}])
    manifest = Corpus(run(small_config(raw, tmp_path / "corpus", sources=[{**source, "min_tokens": found}]))).manifest
    assert sum(split["tokens"] for split in manifest["splits"].values()) == found
    assert manifest["counts"]["duplicates"] == 20


def test_losing_running_mode_and_unknown_runner_are_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--runner=FnRunner: it is not known to write the same bytes"):
        run(small_config(raw, tmp_path / "corpus"), ["--runner=FnRunner"])
    with pytest.raises(InputError, match="multi_threading, in which Beam's local runner drops elements"):
        run(small_config(raw, tmp_path / "corpus"), ["--direct_running_mode=multi_threading"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--direct_num_workers=abc", "Beam's options: argument --direct_num_workers: invalid int value: 'abc'"),
        (
            "--direct_running_mode=threads",
            "Beam's options: argument --direct_running_mode: invalid choice: 'threads'.*",
        ),
        ("--runner", "Beam's options: argument --runner: expected one argument"),
        ("--sed=4", "--sed: unknown to Beam; accepted: .*"),
        ("--direct_num_worker=2", "--direct_num_worker: unknown to Beam; did you mean '--direct_num_workers'[?]"),
        ("-x", "-x: unknown to Beam; .*"),
    ],
)
def test_options_that_beam_does_not_know(
    raw: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        run(small_config(raw, tmp_path / "corpus"), [option])
    assert re.fullmatch(message, str(caught.value))
    assert len(str(caught.value)) < 300
    assert capfd.readouterr().err == ""


def test_special_tokens_as_words_of_the_text_are_found_out(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(prose(number) + " The word <mask> is here.")
    sources = [{"type": "text", "paths": [str(tmp_path / "*.txt")]}]
    fails(tmp_path, tmp_path, r"differ on 20 of 20 documents, such as text/\d+\.txt, .*special token", sources=sources)


def test_documents_are_drawn_to_be_encoded_by_the_exported_tokenizer_too(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_all = Encoder.encode_all

    def backwards(encoder: Encoder, texts: Iterable[str]) -> Iterator[Encoded]:
        for ids, begins in encode_all(encoder, texts):
            yield Encoded(ids[::-1].copy(), begins)

    monkeypatch.setattr(Encoder, "encode_all", backwards)
    monkeypatch.setattr(tokens, "COMPARED", 2)
    with pytest.raises(InputError, match=r"tokenizer.json and the corpus differ on \d+ of 25 documents, such as \w+/"):
        run(small_config(raw, tmp_path / "corpus"))
