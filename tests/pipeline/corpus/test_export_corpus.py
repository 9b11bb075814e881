"""Corpora in other formats, read by readers that know nothing of ours: every sequence and row is the corpus's."""

import errno
import struct
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from tokenizers import Tokenizer

from pipeline.corpus import as_megatron, as_parquet, export_corpus
from pipeline.corpus.pairs import Pairs
from pipeline.corpus.shards import Corpus, map_index
from pipeline.errors import DigestError, InputError
from pipeline.files import file_sha256
from tests.conftest import flip_byte
from tests.text import text_corpus
from tests.tiny import tiny_corpus


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_corpus(tmp_path_factory.mktemp("text"))


def read_megatron(prefix: Path) -> tuple[list[list[int]], list[int]]:
    """(sequences, first sequence of each document and the end), from the description of Megatron's format."""
    index, data = Path(f"{prefix}.idx").read_bytes(), Path(f"{prefix}.bin").read_bytes()
    magic, version, code, sequences, documents = struct.unpack_from("<9sQBQQ", index)
    assert (magic, version) == (b"MMIDIDX\0\0", 1)
    kind, size = {4: ("i", 4), 8: ("H", 2)}[code]
    place = struct.calcsize("<9sQBQQ")
    lengths = struct.unpack_from(f"<{sequences}i", index, place)
    pointers = struct.unpack_from(f"<{sequences}q", index, place + 4 * sequences)
    firsts = struct.unpack_from(f"<{documents}q", index, place + 12 * sequences)
    assert len(index) == place + 12 * sequences + 8 * documents
    assert len(data) == size * sum(lengths)
    pairs = zip(lengths, pointers, strict=True)
    return [list(struct.unpack_from(f"<{length}{kind}", data, pointer)) for length, pointer in pairs], list(firsts)


def documents_of(folder: Path, split: str, dtype: str = "<u2") -> list[list[list[int]]]:
    """The documents of a split as sentences, the separator with the last, from the files themselves."""
    documents = []
    for path in sorted(folder.glob(f"{split}-*.tokens")):
        tokens, index = np.fromfile(path, dtype).tolist(), map_index(path.with_suffix(".index"))
        bounds, begins = index["documents"].tolist(), index["sentences"].tolist()
        for begin, end in pairwise(bounds):
            cuts = [place for place in begins if begin <= place < end] + [end]
            documents.append([tokens[a:b] for a, b in pairwise(cuts)])
    return documents


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("split", ["train", "valid"])
def test_megatron_sentences(real: Path, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_megatron, "BLOCK", 7)  # so that separators lie at every place of a block
    assert export_corpus.export_corpus(real, tmp_path / "out", "megatron")
    sequences, firsts = read_megatron(tmp_path / "out" / f"{split}_text_sentence")
    documents = documents_of(real, split)
    assert [sequences[a:b] for a, b in pairwise(firsts)] == [
        [*document[:-1], document[-1][:-1]] for document in documents
    ]
    assert firsts[-1] == len(sequences) > len(documents) == Corpus(real).manifest["splits"][split]["documents"]
    assert not any(2 in sequence for sequence in sequences)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(64, "<u2"), (70_000, "<u4")])
def test_megatron_documents(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    folder = tiny_corpus(tmp_path / "corpus", vocab_size=vocab_size)
    export_corpus.export_corpus(folder, tmp_path / "out", "megatron", "document")
    for split in ("train", "valid"):
        sequences, firsts = read_megatron(tmp_path / "out" / f"{split}_text_document")
        assert sequences == [list(chain(*document)) for document in documents_of(folder, split, dtype)]
        assert max(map(max, sequences)) > (65_536 if vocab_size > 65_536 else 0)
        assert firsts == list(range(len(sequences) + 1))


def load(folder: Path, split: str) -> list[dict[str, Any]]:
    return [dict(row) for row in datasets.load_dataset(str(folder), split=split, streaming=True)]


def test_datasets_samples(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_parquet, "TOGETHER", 100)  # three samples a row group
    export_corpus.export_corpus(real, tmp_path / "out", "datasets")
    corpus = Corpus(real)
    for split, name in (("train", "train"), ("valid", "validation")):
        samples = corpus.split(split, 32)
        expected = [[id for id in row if id != 1] for row in samples.read(np.arange(len(samples))).tolist()]
        assert load(tmp_path / "out", name) == [{"input_ids": ids} for ids in expected]
    shards = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert shards == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation-00000-of-00001.parquet",
    ]


def test_datasets_documents_are_what_the_tokenizer_gives(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_parquet, "TOGETHER", 1_000)  # several documents a row group, and several groups
    export_corpus.export_corpus(real, tmp_path / "out", "datasets", "document")
    rows = [row["input_ids"] for row in load(tmp_path / "out", "train")]
    assert rows == [[0, *chain(*document)] for document in documents_of(real, "train")]
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer" / "tokenizer.json"))
    texts = [path.read_text() for path in sorted((real.parent / "texts").iterdir())]
    encoded = [tokenizer.encode(text).ids for text in texts]
    assert sum(row in encoded for row in rows) == len(rows)


def test_datasets_pairs(tmp_path: Path) -> None:
    folder = text_corpus(tmp_path, packing="segment-pair")
    export_corpus.export_corpus(folder, tmp_path / "out", "datasets")
    pairs = Pairs(Corpus(folder), "valid", 32)
    ids, types, labels = pairs.read(np.arange(len(pairs)))
    rows = load(tmp_path / "out", "validation")
    assert len(rows) == len(pairs)
    for row, *expected in zip(rows, ids.tolist(), types.tolist(), labels.tolist(), strict=True):
        padding = 32 - len(row["input_ids"])
        assert row["input_ids"] + [1] * padding == expected[0]
        assert row["token_type_ids"] + [0] * padding == expected[1]
        assert row["next_sentence_label"] == expected[2]


@pytest.mark.parametrize("choice", [("megatron", "sentence"), ("datasets", "document")])
def test_what_is_beside_an_export_and_that_it_is_the_same_again(
    real: Path, tmp_path: Path, choice: tuple[str, str]
) -> None:
    for name in ("one", "two"):
        assert export_corpus.export_corpus(real, tmp_path / name, *choice)
    made = digests(tmp_path / "one")
    assert made == digests(tmp_path / "two")
    readme = (tmp_path / "one" / "README.md").read_text(encoding="utf-8")
    assert readme.startswith((real / "DATASET_CARD.md").read_text(encoding="utf-8"))
    assert f"is a {choice[1]}" in readme
    assert made["tokenizer/tokenizer.json"] == Corpus(real).tokenizer_fingerprint
    manifest = export_corpus.read_manifest(tmp_path / "one", "corpus-export", 1)
    assert manifest["corpus_digest"] == Corpus(real).digest
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: digest for name, digest in made.items() if name != "manifest.json"
    }


def test_an_export_that_is_there(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export_corpus.export_corpus(corpus, out, "datasets", length=16)
    assert not export_corpus.export_corpus(corpus, out, "datasets"), "the same: only verified"
    for choice in (("datasets", "document"), ("megatron",)):
        with pytest.raises(InputError, match=f"{out}: exists already"):
            export_corpus.export_corpus(corpus, out, *choice)
    other = tiny_corpus(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match=f"{out}: exists already"):
        export_corpus.export_corpus(other, out, "datasets")
    flip_byte(out / "data" / "train-00001-of-00002.parquet", 40)
    with pytest.raises(DigestError, match=r"train-00001-of-00002\.parquet: SHA-256"):
        export_corpus.export_corpus(corpus, out, "datasets")
    with pytest.raises(InputError, match="kind 'corpus', expected 'corpus-export'"):
        export_corpus.export_corpus(corpus, other, "datasets")


def test_a_damaged_corpus_or_a_full_disk_leaves_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(export_corpus, "write_megatron", full)
        with pytest.raises(InputError, match=r"output: cannot make .*out': No space left on device"):
            export_corpus.export_corpus(corpus, tmp_path / "out", "megatron")
    flip_byte(corpus / "valid-00000-of-00002.tokens", 3)
    with pytest.raises(DigestError, match=r"valid-00000-of-00002\.tokens: SHA-256"):
        export_corpus.export_corpus(corpus, tmp_path / "out", "megatron")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        (("arrow",), "--format: found 'arrow'; accepted: megatron, datasets"),
        (("megatron", "sample"), "--level: found 'sample'; accepted with --format megatron: sentence, document"),
        (("datasets", "sentence"), "--level: found 'sentence'; accepted with --format datasets: sample, document"),
        (("datasets", "sample", 17), "not packed for sequences of 17 tokens; it has 16"),
        (("megatron", "", 16), "--length: found 16; it is for --format datasets --level sample"),
    ],
)
def test_choices_that_there_are_not(corpus: Path, tmp_path: Path, choice: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        export_corpus.export_corpus(corpus, tmp_path / "out", *choice)
