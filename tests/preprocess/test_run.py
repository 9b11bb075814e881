"""The whole of preprocessing on small files: what is in a corpus, what its bytes follow from, what a kill leaves."""

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from tokenizers import Tokenizer

from pipeline.corpus.pairs import Pairs
from pipeline.corpus.shards import Corpus, Shard, map_index, shard_name, token_dtype
from pipeline.errors import DigestError, InputError
from pipeline.files import TEMPORARY, file_sha256
from preprocess.run import run
from tests.conftest import flip_byte
from tests.preprocess.small import dump, page, prose, small_config, write_raw


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("made") / "corpus"
    assert run(small_config(raw, output)) == output
    return output


def test_corpus_holds_every_good_document_once(corpus: Path) -> None:
    opened = Corpus(corpus)
    opened.verify()
    counts = opened.manifest["counts"]
    assert {key: counts[key] for key in ("read", "kept", "duplicates")} == {"read": 31, "kept": 25, "duplicates": 1}
    assert counts["skipped"] == {"other-namespace": 1, "redirect": 1}
    assert counts["removed"] == {"references": 12, "templates": 12}
    assert counts["dead_letters"] == {"no-text": 1, "not-utf-8": 1, "too-short": 1}
    assert counts["sources"]["lines"]["duplicates"] == 1
    splits = opened.manifest["splits"]
    assert sum(splits[split]["documents"] for split in ("train", "valid")) == 25
    assert all(splits[split]["documents"] > 0 for split in ("train", "valid"))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(corpus / "tokenizer" / "spm.model"))
    texts = []
    for split in ("train", "valid"):
        for shard in range(splits[split]["shards"]):
            name = shard_name(split, shard, splits[split]["shards"])
            tokens = np.fromfile(corpus / f"{name}.tokens", "<u2")
            bounds = map_index(corpus / f"{name}.index")["documents"].tolist()
            assert bounds[-1] == len(tokens)
            assert [tokens[end - 1] for end in bounds[1:]] == [2] * (len(bounds) - 1)
            texts += [processor.decode(tokens[a : b - 1].tolist()) for a, b in itertools.pairwise(bounds)]
    expected = [f"Page link {prose(n)}" for n in range(12)] + [prose(100 + n) for n in range(4)]
    expected += [f"Book {n} BALA {prose(200 + n)}" for n in range(2)] + [prose(300 + n) for n in range(7)]
    assert sorted(texts) == sorted(" ".join(text.split()) for text in expected)


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("length", [32, 64])
def test_samples_read_back_to_all_tokens(corpus: Path, split: str, length: int) -> None:
    opened = Corpus(corpus)
    summary = opened.manifest["splits"][split]
    samples = opened.split(split, length)
    rows = samples.read(np.arange(len(samples)))
    assert rows.shape == (summary["samples"][str(length)], length)
    padding = float((rows == 1).mean())
    assert summary["fill_rate"][str(length)] == pytest.approx(1 - padding, abs=1e-6)
    assert not ((rows == 0)[:, 1:]).any()
    assert (rows[:, 0] == 0).all()
    ordinary = int((rows > 4).sum())
    assert ordinary == summary["tokens"] - summary["documents"]


def test_shards_of_a_split_are_ranges_of_ranks_with_as_many_tokens(corpus: Path) -> None:
    opened = Corpus(corpus)
    for split in ("train", "valid"):
        summary = opened.manifest["splits"][split]
        shards = [Shard.open(corpus, name, np.dtype("<u2")) for name in opened.shard_names(split)]
        sizes = [len(shard.tokens) for shard in shards]
        longest = max(int(np.diff(shard.index["documents"]).max()) for shard in shards)
        assert summary["shard_tokens"] == {"min": min(sizes), "max": max(sizes)}
        assert all(abs(size - summary["tokens"] / len(sizes)) <= longest for size in sizes)


def test_damage_to_a_shard_is_named_with_its_bytes(corpus: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(corpus, tmp_path / "copy")
    for name in ("train-00001-of-00003.tokens", "valid-00000-of-00002.index"):
        size = (copy / name).stat().st_size
        flip_byte(copy / name, size // 2)
        with pytest.raises(DigestError, match=rf"{name}: SHA-256 .* damaged within bytes 0 to {size - 1}$"):
            Corpus(copy).verify()
        flip_byte(copy / name, size // 2)


def test_segment_pairs(raw: Path, tmp_path: Path) -> None:
    config = small_config(raw, tmp_path / "corpus", packing="segment-pair", shards={"train": 2, "valid": 1})
    opened = Corpus(run(config))
    opened.verify()
    for split, length in itertools.product(("train", "valid"), (32, 64)):
        pairs, summary = Pairs(opened, split, length), opened.manifest["splits"][split]
        ids, types, labels = pairs.read(np.arange(len(pairs)))
        assert len(pairs) == summary["samples"][str(length)]
        assert summary["fill_rate"][str(length)] == pytest.approx(float((ids != 1).mean()), abs=1e-6)
        assert ((ids == 2).sum(1) == 2).all(), "no separator of a document is in a segment"
        assert 0.25 < labels.mean() < 0.85
        assert (types.sum(1) >= 2).all()
    with pytest.raises(InputError, match=r"shards: valid-0000\d-of-00002 has one document.*give fewer shards"):
        run(small_config(raw, tmp_path / "sparse", packing="segment-pair"))
    assert not (tmp_path / "sparse").exists()


def test_manifest_says_where_it_comes_from_and_holds_no_path(corpus: Path, raw: Path) -> None:
    manifest = json.loads((corpus / "manifest.json").read_bytes())
    assert manifest["tokenizer"]["fingerprint"] == file_sha256(corpus / "tokenizer" / "tokenizer.json")
    assert manifest["tokenizer"]["mismatching_documents"] == 0
    encoded, splits = manifest["tokenizer"]["encoded"], manifest["splits"].values()
    assert all(encoded[key] == sum(split[key] for split in splits) for key in ("documents", "tokens"))
    assert 0 < encoded["byte_tokens"] < encoded["tokens"] / 50 < encoded["words"] < encoded["characters"] / 3
    names = {entry["name"]: entry["sha256"] for entry in manifest["inputs"]}
    assert names["wiki.xml.bz2"] == file_sha256(raw / "wiki.xml.bz2")
    assert len(names) == 9
    assert set(manifest["files"]) == set(digests(corpus)) - {"manifest.json"}
    for path in corpus.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert str(raw.parent).encode() not in data
            assert os.uname().nodename.encode() not in data


def test_dead_letters_and_card(corpus: Path) -> None:
    letters = [json.loads(line) for line in (corpus / "dead-letters" / "books.jsonl").read_text().splitlines()]
    assert [(letter["id"], letter["rule"]) for letter in letters] == [("books/latin1.txt", "not-utf-8")]
    lines = [json.loads(line) for line in (corpus / "dead-letters" / "lines.jsonl").read_text().splitlines()]
    assert {letter["rule"]: letter["meta"] for letter in lines} == {
        "no-text": {},
        "too-short": {"url": "https://short"},
    }
    assert (corpus / "dead-letters" / "wikipedia.jsonl").read_text() == ""
    card = (corpus / "DATASET_CARD.md").read_text()
    manifest = Corpus(corpus).manifest
    tokens = manifest["counts"]["sources"]["wikipedia"]["tokens"]
    assert f"| wikipedia | wikipedia | 12 | {tokens:,} | CC0 | nobody |" in card
    assert manifest["corpus_digest"] in card


@pytest.mark.parametrize("kind", ["sentencepiece-bpe", "byte-bpe"])
def test_the_corpus_has_the_ids_of_its_tokenizer(raw: Path, tmp_path: Path, kind: str) -> None:
    settings = {"type": kind, "vocab_size": 400, "sample_characters": 40000}
    corpus = Corpus(run(small_config(raw, tmp_path / "corpus", tokenizer=settings)))
    assert corpus.manifest["tokenizer"]["type"] == kind
    assert corpus.manifest["tokenizer"]["mismatching_documents"] == 0
    check_ids(corpus)


def test_sentencepiece_has_the_ids_of_the_corpus(corpus: Path) -> None:
    check_ids(Corpus(corpus))
    fast = Tokenizer.from_file(str(corpus / "tokenizer" / "tokenizer.json"))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(corpus / "tokenizer" / "spm.model"))
    assert fast.encode("Bala dede.").ids == [0, *processor.encode("Bala dede."), 2]


def check_ids(corpus: Corpus) -> None:
    """Compare some documents' ids with those of the exported tokenizer for raw text."""
    fast = Tokenizer.from_file(str(corpus.folder / "tokenizer" / "tokenizer.json"))
    found = set()
    for split in corpus.splits:
        for name in corpus.shard_names(split):
            shard = Shard.open(corpus.folder, name, token_dtype(corpus.vocab_size))
            found |= {tuple(part[:-1].tolist()) for part in np.split(shard.tokens, shard.index["documents"][1:-1])}
    for number in range(7):
        raw = "\r\n " + prose(300 + number).replace(" ", "  ").replace("\n", "\r\n") + "\n"
        assert tuple(fast.encode(raw, add_special_tokens=False).ids) in found


def test_same_bytes_with_worker_processes_another_folder_and_order(corpus: Path, raw: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(raw, moved)
    config = small_config(moved, tmp_path / "corpus")
    shuffled = [
        source.model_copy(update={"paths": source.paths[::-1] + source.paths[:1]}) for source in config.sources[::-1]
    ]
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    run(config.model_copy(update={"sources": shuffled}), options)
    assert digests(tmp_path / "corpus") == digests(corpus)
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))


def test_attribution_and_a_duplicate_leave_the_corpus_digest(corpus: Path, raw: Path, tmp_path: Path) -> None:
    moved = tmp_path / "raw"
    shutil.copytree(raw, moved)
    (moved / "books" / "zz-again.txt").write_bytes((moved / "books" / "book-1.txt").read_bytes())
    config = small_config(moved, tmp_path / "corpus")
    thanks = [source.model_copy(update={"attribution": "somebody else"}) for source in config.sources]
    run(config.model_copy(update={"sources": thanks}))
    ours, theirs = Corpus(tmp_path / "corpus").manifest, Corpus(corpus).manifest
    assert ours["corpus_digest"] == theirs["corpus_digest"]
    assert ours["digest"] != theirs["digest"]
    assert ours["counts"]["duplicates"] == 2


def test_again_is_up_to_date_and_another_recipe_is_refused(
    corpus: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(corpus)
    run(small_config(raw, corpus))
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(
        InputError, match=r"a corpus already, and it differs in config\.seed, config\.shards\.train; give"
    ):
        run(small_config(raw, corpus, seed=6, shards={"train": 4, "valid": 2}))
    assert digests(corpus) == before


def test_output_that_is_no_corpus_or_is_damaged(corpus: Path, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").touch()
    with pytest.raises(InputError, match=r"no manifest\.json here"):
        run(small_config(raw, tmp_path / "mine"))
    assert (tmp_path / "mine" / "precious.txt").exists()
    shutil.copytree(corpus, tmp_path / "copy")
    shard = tmp_path / "copy" / "train-00000-of-00003.tokens"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DigestError, match=r"train-00000-of-00003\.tokens: SHA-256 \w+, expected \w+"):
        run(small_config(raw, tmp_path / "copy"))


def test_killed_run_leaves_nothing_to_read_and_the_next_one_succeeds(corpus: Path, raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "corpus"
    config = small_config(raw, output)
    code = (
        "import sys; from preprocess.config import CorpusConfig; from preprocess.run import run;"
        "run(CorpusConfig.model_validate_json(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, config.model_dump_json()], stderr=subprocess.DEVNULL)
    work = tmp_path / f"{TEMPORARY}corpus"
    stages = tmp_path / "corpus.stages"
    while not list(stages.glob(f"{TEMPORARY}documents-*/*/documents/unit-0000[3-9].json")):
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(InputError, match="another run is writing it now"):
        run(config)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert work.exists()
    assert not output.exists()
    (work / "left-over").touch()
    (stages / f"{TEMPORARY}tokens-of-another-run").mkdir()
    run(config)
    assert digests(output) == digests(corpus)
    assert {path.name for path in tmp_path.iterdir()} == {"corpus"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_removes_what_it_made_and_says_one_line(raw: Path, tmp_path: Path, number: int) -> None:
    (tmp_path / "temporary").mkdir()
    config = tmp_path / "temporary" / "corpus.yaml"
    config.write_text(small_config(raw, tmp_path / "corpus").model_dump_json())  # JSON is YAML
    process = subprocess.Popen(
        [sys.executable, "-m", "launch.cli", "preprocess", str(config)],
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )
    while not list(tmp_path.glob(f"corpus.stages/{TEMPORARY}documents-*/*/documents/unit-0000[1-9].json")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == b"kilobatch: interrupted"
    assert b"Traceback" not in errors
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["corpus.yaml", "temporary"]


def test_an_id_that_occurs_twice_loses_only_the_duplicate(raw: Path, tmp_path: Path) -> None:
    pages = [page(1, prose(1)), page(2, prose(2)), page(2, prose(1)), page(3, prose(3)), page(3, prose(3))]
    (tmp_path / "dump").write_text(dump(pages + [page(n, prose(n)) for n in range(4, 24)]))
    run(small_config(raw, tmp_path / "corpus", sources=[{"type": "wikipedia", "paths": [str(tmp_path / "dump")]}]))
    counts = Corpus(tmp_path / "corpus").manifest["counts"]
    assert (counts["read"], counts["kept"], counts["duplicates"]) == (25, 23, 2)


def test_with_doc_sentences_no_sample_crosses_a_border(corpus: Path, raw: Path, tmp_path: Path) -> None:
    packed = Corpus(run(small_config(raw, tmp_path / "corpus", packing="doc-sentences")))
    for split in ("train", "valid"):
        for name in packed.shard_names(split):
            index = Shard.open(packed.folder, name, token_dtype(packed.vocab_size)).index
            assert set(index["documents"].tolist()) <= set(index["samples.32"].tolist())
    assert digests(packed.folder).keys() == digests(corpus).keys()
    card = (packed.folder / "DATASET_CARD.md").read_text()
    assert "packed (doc-sentences)" in card


def test_limits_are_no_part_of_the_recipe(corpus: Path, raw: Path, tmp_path: Path) -> None:
    again = small_config(raw, tmp_path / "corpus", dead_letters={"max_share": 0.2})
    sources = [source.model_copy(update={"min_documents": 2, "min_tokens": 3}) for source in again.sources]
    assert digests(run(again.model_copy(update={"sources": sources}))) == digests(corpus)


def test_a_corpus_may_have_more_units_than_a_process_may_open_files(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(100):
        (tmp_path / "texts" / f"{number}.txt").write_text(prose(number, 20), encoding="utf-8")
    sources = [{"type": "text", "paths": [str(tmp_path / "texts" / "*.txt")]}]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        corpus = run(small_config(tmp_path, tmp_path / "corpus", sources=sources, dedup={"near": {}}))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert Corpus(corpus).manifest["counts"]["kept"] == 100
