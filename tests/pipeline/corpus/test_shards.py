"""The shard format: what is written is read, at any number of tokens and shards, and damage is named."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.shards import Corpus, Shard, corpus_digest, map_index, shard_name, token_dtype, write_shard
from pipeline.errors import DigestError, InputError
from pipeline.files import MANIFEST, describe_files, file_sha256, read_json, seal, write_json
from tests.conftest import flip_byte
from tests.tiny import SPECIAL_IDS, tiny_corpus

BOS, PAD, EOS = (SPECIAL_IDS[name] for name in ("bos", "pad", "eos"))
Documents = list[list[int]]


def write_corpus(folder: Path, shards: list[Documents], length: int, vocab_size: int) -> list[list[int]]:
    """A corpus with the same shards in both splits; returns the samples that reading it must give, computed apart.

    Each document fills samples of `length` − 2 tokens of its own; the last one of a document is short.
    """
    folder.mkdir()
    names: list[str] = []
    expected: list[list[int]] = []
    for split in ("train", "valid"):
        expected = []
        for number, documents in enumerate(shards):
            flat: list[int] = []
            starts, begins = [0], [0]
            for document in documents:
                begin = len(flat)
                flat += [*document, EOS]
                starts.append(len(flat))
                for offset in range(0, len(document), length - 2):
                    piece = document[offset : offset + length - 2]
                    expected.append([BOS, *piece, EOS] + [PAD] * (length - 2 - len(piece)))
                    begins.append(begin + offset + len(piece))
                begins[-1] = len(flat)
            index = {"documents": starts, "sentences": starts, f"samples.{length}": begins}
            names += write_shard(
                folder,
                shard_name(split, number, len(shards)),
                np.array(flat, token_dtype(vocab_size)),
                {key: np.array(value, np.uint64) for key, value in index.items()},
            )
    publish(folder, names, len(shards), [length], vocab_size)
    return expected


def publish(folder: Path, names: list[str], shards: int, lengths: list[int], vocab_size: int) -> None:
    manifest: dict[str, Any] = {
        "kind": "corpus",
        "format": 2,
        "tokenizer": {"vocab_size": vocab_size, "special_ids": SPECIAL_IDS, "fingerprint": "f"},
        "packing": "full-sentences",
        "sequence_lengths": lengths,
        "splits": {split: {"shards": shards} for split in ("train", "valid")},
        "files": describe_files(folder, names),
    }
    write_json(folder / MANIFEST, seal(manifest))


@given(data=st.data(), length=st.integers(3, 12), vocab_size=st.sampled_from([6, 65_536, 65_537, 100_000]))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, length: int, vocab_size: int
) -> None:
    """`<s> tokens </s> <pad> …` for every sample, over several shards, some of them empty, with two and four bytes."""
    tokens = st.integers(5, vocab_size - 1) | st.just(vocab_size - 1)
    documents = st.lists(st.lists(tokens, min_size=1, max_size=30), max_size=4)
    shards = data.draw(st.lists(documents, min_size=1, max_size=4).filter(any))
    folder = tmp_path_factory.mktemp("shards") / "corpus"
    expected = write_corpus(folder, shards, length, vocab_size)
    corpus = Corpus(folder)
    corpus.verify()
    split = corpus.split("valid", length)
    assert len(split) == len(expected)
    assert split.read(np.arange(len(split))).tolist() == expected
    chosen = data.draw(st.lists(st.integers(0, len(split) - 1), min_size=1, max_size=6))
    rows = split.read(np.array(chosen, np.int64))
    assert rows.shape == (len(chosen), length)
    assert rows.tolist() == [expected[sample] for sample in chosen]


@pytest.mark.parametrize(("vocab_size", "size"), [(8, 2), (65_536, 2), (65_537, 4)])
def test_ids_take_two_bytes_while_they_fit(tmp_path: Path, vocab_size: int, size: int) -> None:
    write_corpus(tmp_path / "corpus", [[[vocab_size - 1]]], 4, vocab_size)
    stored = (tmp_path / "corpus" / "train-00000-of-00001.tokens").read_bytes()
    assert stored == (vocab_size - 1).to_bytes(size, "little") + EOS.to_bytes(size, "little")


def test_reading_copies(corpus: Path) -> None:
    split = Corpus(corpus).split("train", 16)
    first = split.read(np.array([0]))
    before = first.copy()
    first[:] = 0
    assert np.array_equal(split.read(np.array([0])), before)
    assert not split.shards[0].tokens.flags.writeable


def test_a_corpus_is_the_same_wherever_it_lies(tmp_path: Path) -> None:
    """Law 3: same content, same digest; other content, another digest."""
    digests = [Corpus(tiny_corpus(tmp_path / name, seed=seed)).digest for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_covers_shards_and_tokenizer_alone(corpus: Path) -> None:
    manifest = read_json(corpus / MANIFEST)
    digest = corpus_digest(manifest)
    assert corpus_digest({**manifest, "sources": ["others"], "versions": {"beam": "9"}}) == digest
    card = {"DATASET_CARD.md": {"bytes": 1, "sha256": "0"}}
    assert corpus_digest({**manifest, "files": {**manifest["files"], **card}}) == digest
    for name in ("tokenizer/tokenizer.model", "train-00002-of-00003.index", "x.tokens"):
        assert corpus_digest({**manifest, "files": {**manifest["files"], name: {}}}) != digest
    assert corpus_digest({**manifest, "tokenizer": {**manifest["tokenizer"], "vocab_size": 65}}) != digest
    assert corpus_digest({**manifest, "sequence_lengths": [16, 32]}) != digest


def test_verify_names_file_expected_and_found_digest(corpus: Path) -> None:
    """A flipped byte in any file, at its beginning, middle or end."""
    names = list(Corpus(corpus).manifest["files"])
    assert len(names) == 8
    for name in names:
        path = corpus / name
        expected, size = file_sha256(path), path.stat().st_size
        for position in (0, size // 2, size - 1):
            flip_byte(path, position)
            with pytest.raises(DigestError) as caught:
                Corpus(corpus).verify()
            assert str(caught.value) == f"{path}: SHA-256 {file_sha256(path)}, expected {expected}"
            flip_byte(path, position)
    Corpus(corpus).verify()


def test_verify_sizes_finds_what_is_short_long_or_missing(corpus: Path) -> None:
    opened = Corpus(corpus)
    opened.verify_sizes()
    for name, entry in opened.manifest["files"].items():
        path = corpus / name
        whole = path.read_bytes()
        for damaged in (whole[:-1], b"", whole + b"x"):
            path.write_bytes(damaged)
            with pytest.raises(DigestError) as caught:
                opened.verify_sizes()
            assert str(caught.value) == (
                f"{path}: {len(damaged)} bytes, expected {len(whole)} bytes, SHA-256 {entry['sha256']}"
            )
            with pytest.raises(DigestError):
                opened.verify()
        path.unlink()
        with pytest.raises(DigestError, match="missing, expected"):
            opened.verify_sizes()
        path.write_bytes(whole)


def test_an_altered_manifest_is_refused(corpus: Path) -> None:
    manifest = read_json(corpus / MANIFEST)
    manifest["tokenizer"]["vocab_size"] += 1
    write_json(corpus / MANIFEST, manifest)
    with pytest.raises(DigestError, match=r"manifest\.json: SHA-256 of its contents"):
        Corpus(corpus)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "a\\b"])
def test_a_manifest_with_names_that_lead_outside_is_refused(corpus: Path, name: str) -> None:
    (corpus.parent / "secret").write_bytes(b"")
    manifest = read_json(corpus / MANIFEST)
    manifest["files"][name] = {"bytes": 0, "sha256": "0"}
    write_json(corpus / MANIFEST, seal(manifest))
    for check in (Corpus(corpus).verify, Corpus(corpus).verify_sizes):
        with pytest.raises(InputError, match="leads outside the folder"):
            check()


def test_a_linked_shard_is_refused(corpus: Path) -> None:
    path = corpus / "train-00000-of-00002.tokens"
    path.rename(corpus.parent / "elsewhere")
    path.symlink_to(corpus.parent / "elsewhere")
    for read in (Corpus(corpus).verify, Corpus(corpus).verify_sizes, lambda: Corpus(corpus).split("train", 16)):
        with pytest.raises(InputError, match="symbolic link"):
            read()


def test_a_wrong_sequence_length_names_the_right_ones(tmp_path: Path) -> None:
    folder = tiny_corpus(tmp_path / "corpus")
    with pytest.raises(InputError) as caught:
        Corpus(folder).split("train", 128)
    assert str(caught.value) == f"{folder}: not packed for sequences of 128 tokens; it has 16"


def test_a_split_without_samples_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", [[], []], 8, 10)
    with pytest.raises(InputError, match="the valid split has no samples"):
        Corpus(tmp_path / "corpus").split("valid", 8)


def index_file(folder: Path) -> Path:
    arrays = {"documents": np.arange(5, dtype=np.uint64), "samples.8": np.zeros(0, np.uint64)}
    write_shard(folder, "x", np.zeros(4, "<u2"), arrays)
    return folder / "x.index"


def test_an_index_is_mapped_as_it_was_written(tmp_path: Path) -> None:
    arrays = map_index(index_file(tmp_path))
    assert {name: array.tolist() for name, array in arrays.items()} == {"documents": [0, 1, 2, 3, 4], "samples.8": []}
    assert Shard.open(tmp_path, "x", np.dtype("<u2")).tokens.tolist() == [0, 0, 0, 0]


@given(data=st.data())
def test_a_damaged_index_is_never_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Truncated or overwritten anywhere: refused by name, or, where only a number in it changed, found by `verify`."""
    path = index_file(tmp_path_factory.mktemp("index"))
    whole = path.read_bytes()
    begin = data.draw(st.integers(0, len(whole) - 1))
    put = data.draw(
        st.binary(max_size=9) | st.sampled_from([b"\xff" * 8, b"[]", b"{}", b"null", b"-1", b"1e9", b"U32"])
    )
    keep = data.draw(st.booleans())
    path.write_bytes(whole[:begin] + put + (whole[begin + len(put) :] if keep else b""))
    try:
        arrays = map_index(path)
    except DigestError as error:
        message = str(error)
    else:
        assert all(array.dtype == np.dtype("<u8") and array.ndim == 1 for array in arrays.values())
        return
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"splits": {}}, "splits.train: field required"),
        ({"files": {}}, "names no file train-00000-of-00002.tokens"),
        ({"splits": {"train": {"shards": 0}, "valid": {"shards": 2}}}, "splits.train.shards: input should be greater"),
        ({"splits": {"train": {"shards": 10**9}, "valid": {"shards": 2}}}, "splits.train.shards: input should be less"),
        ({"tokenizer": {"vocab_size": 64, "special_ids": {}, "fingerprint": ""}}, "tokenizer.special_ids.bos: field"),
        (
            {
                "tokenizer": {
                    "vocab_size": 3,
                    "special_ids": {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "mask": -1},
                    "fingerprint": "",
                }
            },
            "special ids {'mask': -1, 'unk': 3} are not of 3 pieces",
        ),
    ],
)
def test_a_manifest_that_another_program_wrote(corpus: Path, change: dict[str, Any], complaint: str) -> None:
    path = corpus / MANIFEST
    write_json(path, seal(read_json(path) | change))
    with pytest.raises(InputError, match=re.escape(complaint)) as error:
        Corpus(corpus)
    assert len(str(error.value).splitlines()) == 1


def test_who_can_read_one_file_of_a_shard_can_read_the_other(tmp_path: Path) -> None:
    index = {"documents": np.array([0, 3], np.uint64)}
    names = write_shard(tmp_path, "train-00000-of-00001", np.zeros(3, "<u2"), index)
    assert len({(tmp_path / name).stat().st_mode for name in names}) == 1
