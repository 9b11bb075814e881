"""What `corpus stats` and `corpus show` say: the samples that training reads, and the manifest's numbers."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pipeline.corpus.inspect_corpus import TOKENIZER, parts_of, print_sample, print_stats
from pipeline.corpus.pairs import Pairs
from pipeline.corpus.shards import Corpus
from pipeline.errors import DigestError, InputError
from tests.conftest import flip_byte
from tests.text import text_corpus


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_corpus(tmp_path_factory.mktemp("text"))


def printed(print_it: Callable[..., None], *arguments: object) -> str:
    console = Console(width=200, record=True, quiet=False, markup=False, soft_wrap=True, highlight=False)
    print_it(*arguments, console)
    return console.export_text()


@pytest.mark.parametrize("split", ["train", "valid"])
def test_the_parts_of_every_sample_are_what_training_reads(corpus: Path, split: str) -> None:
    opened = Corpus(corpus)
    samples = opened.split(split, 16)
    special = opened.special_ids
    documents: dict[str, list[int]] = {}
    for number in range(len(samples)):
        shard, _, parts = parts_of(opened, split, 16, number)
        row = [int(token) for token in samples.read(np.array([number]))[0] if token != special["pad"]]
        ids = [token for part in parts for token in part.ids]
        assert row == [special["bos"], *ids, *([] if ids[-1] == special["eos"] else [special["eos"]])]
        documents.setdefault(shard, []).extend(part.document for part in parts if part.first)
    for shard in opened.shard_names(split):
        assert documents[shard] == list(range(len(documents[shard]))), "each document begins once, in order"
    assert sum(map(len, documents.values())) == opened.manifest["splits"][split]["documents"]


def test_a_sample_is_shown_as_text_ids_and_pieces(real: Path) -> None:
    corpus = Corpus(real)
    shard, begin, parts = parts_of(corpus, "train", 32, 0)
    text = printed(print_sample, corpus, "train", 32, 0)
    assert f"sample 0 of train for 32 tokens: {shard}, tokens {begin} to" in text
    assert f"ids: {' '.join(map(str, parts[0].ids))}" in text
    assert "pieces: ▁" in text
    assert len(text.split("pieces:")) == len(parts) + 1


def test_a_pair_is_shown_as_its_segments(tmp_path: Path) -> None:
    corpus = Corpus(text_corpus(tmp_path, packing="segment-pair"))
    labels = Pairs(corpus, "train", 32).read(np.arange(20)).next_sentence_label
    for label, says in ((0, "B follows A"), (1, "B is of another document")):
        text = printed(print_sample, corpus, "train", 32, int(np.flatnonzero(labels == label)[0]))
        assert says in text
        assert text.count("pieces:") == 2
    assert "packing: segment-pair" in printed(print_stats, corpus)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [20, 80, 300])
def test_figures_are_whole_however_wide_the_terminal_is(real: Path, width: int, terminal: bool) -> None:
    corpus, file = Corpus(real), io.StringIO()
    splits = {name: {**counts, "tokens": 123_456_789_012} for name, counts in corpus.manifest["splits"].items()}
    sources = {
        "a-source-of-a-long-name": {"read": 987_654_321, "dead_letters": {"too-short": 12_345_678}, "skipped": {}}
    }
    manifest = {**corpus.manifest, "splits": splits, "counts": {"sources": sources, "dead_letters": {}}}
    corpus.manifest = manifest
    print_stats(corpus, Console(file=file, width=width, force_terminal=terminal, soft_wrap=True, color_system=None))
    words = file.getvalue().split()
    for figure in ("123,456,789,012", "987,654,321", "12,345,678", "a-source-of-a-long-name", "near-duplicates"):
        assert figure in words
    assert "…" not in file.getvalue()
    if not terminal:
        assert any({"train", "123,456,789,012"} <= set(line.split()) for line in file.getvalue().splitlines())


@pytest.mark.parametrize(
    ("split", "length", "sample", "complaint"),
    [
        ("tarin", 16, 0, "split: found 'tarin'; accepted: train, valid"),
        ("train", 17, 0, "not packed for sequences of 17 tokens; it has 16"),
        ("train", 16, 10**6, "no sample 1000000; there are 0 to"),
        ("valid", 16, -1, "no sample -1; there are 0 to"),
    ],
)
def test_what_is_not_there(corpus: Path, split: str, length: int, sample: int, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parts_of(Corpus(corpus), split, length, sample)


def test_a_corpus_without_a_tokenizer_or_with_an_altered_one(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has no {TOKENIZER}"):
        printed(print_sample, Corpus(corpus), "train", 16, 0)
    own = text_corpus(tmp_path / "own")
    flip_byte(own / TOKENIZER, 100)
    with pytest.raises(DigestError, match=r"tokenizer\.json: SHA-256"):
        printed(print_sample, Corpus(own), "train", 32, 0)


def test_stats_need_no_shard(tmp_path: Path) -> None:
    folder = text_corpus(tmp_path)
    corpus = Corpus(folder)
    for path in [*folder.glob("*.tokens"), *folder.glob("*.index")]:
        path.unlink()
    text = printed(print_stats, corpus)
    for split in ("train", "valid"):
        assert f"{corpus.manifest['splits'][split]['tokens']:,}" in text
        assert f"{corpus.manifest['splits'][split]['samples']['32']:,}" in text
    source = corpus.manifest["counts"]["sources"]["text"]
    row = next(line for line in text.splitlines() if line.startswith("│ text "))
    assert [cell.strip() for cell in row.split("│")][2:5] == ["60", "60", f"{source['tokens']:,}"]
    assert corpus.digest in text


def test_stats_of_a_corpus_that_says_no_more_than_it_must(corpus: Path) -> None:
    assert Corpus(corpus).digest in printed(print_stats, Corpus(corpus))
