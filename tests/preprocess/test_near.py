"""Near-duplicates: the promised curve, whole clusters, and a corpus in which no cluster is in two splits."""

import bz2
import itertools
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipeline.corpus.shards import Corpus, Shard, token_dtype
from pipeline.files import read_json
from preprocess import kept, near
from preprocess.config import CorpusConfig, NearConfig
from preprocess.minhash import band_hashes, probability, signature
from preprocess.plan import Plan
from preprocess.records import Unit
from preprocess.run import run
from tests.preprocess.small import dump, page, prose, small_config, write_raw


def test_minima_agree_as_often_as_sets_are_similar() -> None:
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 2**64, 1500, dtype=np.uint64, endpoint=False)
    for shared in (300, 600, 900):
        one, other = hashes[:1000], hashes[1000 - shared : 2000 - shared]
        similarity = len(np.intersect1d(one, other)) / len(np.union1d(one, other))
        agreed = float((signature(one, 2000) == signature(other, 2000)).mean())
        assert agreed == pytest.approx(similarity, abs=0.05)


def test_texts_share_a_band_as_often_as_the_curve_says() -> None:
    config = NearConfig(ngram=1, bands=6, rows=3)
    draw = random.Random(0)
    trials, met, expected = 400, 0, 0.0
    for trial in range(trials):
        words = [f"w{trial}x{number}" for number in range(60)]
        shared = draw.randint(20, 40)
        one, other = words[: 30 + shared // 2], words[30 - shared // 2 :]
        similarity = len(set(one) & set(other)) / 60
        expected += probability(similarity, config)
        met += bool(
            set(band_hashes(" ".join(one), config).tolist()) & set(band_hashes(" ".join(other), config).tolist())
        )
    assert met == pytest.approx(expected, abs=3 * trials**0.5 / 2)
    assert 100 < met < 350


def test_short_texts_and_texts_without_words() -> None:
    config = NearConfig()
    assert len(band_hashes("…", config)) == 0
    assert band_hashes("Two words", config).tolist() == band_hashes("two, WORDS!", config).tolist()
    assert len(set(band_hashes("a b c d e f", config).tolist())) == config.bands
    assert [hex(band) for band in band_hashes("the same everywhere", NearConfig(bands=2, rows=2)).tolist()] == [
        "0xdc2cd6cce21a61f0",
        "0x1f22435eb362454a",
    ]


def clusters(pairs: list[tuple[int, int]]) -> dict[int, int]:
    nodes, firsts = near.clusters(np.array(pairs, np.int64).reshape(-1, 2))
    return dict(zip(nodes.tolist(), firsts.tolist(), strict=True))


def components(pairs: list[tuple[int, int]]) -> dict[int, int]:
    found: list[set[int]] = []
    for pair in pairs:
        touched = [cluster for cluster in found if cluster & set(pair)]
        found = [cluster for cluster in found if cluster not in touched] + [set(pair).union(*touched)]
    return {node: min(cluster) for cluster in found for node in cluster}


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] != pair[1]), max_size=40))
def test_clusters_are_whole(pairs: list[tuple[int, int]]) -> None:
    assert clusters(pairs) == components(pairs)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("length", [50, 300, 2000])
def test_a_chain_is_one_cluster_however_long(length: int, seed: int) -> None:
    chain = random.Random(seed).sample(range(1 << 40), length)
    pairs = list(itertools.pairwise(chain if seed else sorted(chain)))
    assert clusters(pairs) == dict.fromkeys(chain, min(chain))


def test_clusters_do_not_depend_on_which_links_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    links = np.array([draw.sample(range(4000), 2) for _ in range(3000)], np.int64)
    whole = near.clusters(links)
    for gathered, parts in ((1, 3000), (100, 70), (1 << 22, 7)):
        monkeypatch.setattr(near, "_GATHERED", gathered)
        assert np.array_equal(near._gathered(np.array_split(links, parts)), whole)


def altered(text: str, seed: int) -> str:
    """A near-duplicate: one word in a hundred is another."""
    draw = random.Random(seed)
    return " ".join("altered" if draw.random() < 0.01 else word for word in text.split(" "))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of which some have one or more near-duplicates, in the same file and in others."""
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder)
    texts = [altered(prose(300 + n, 40), seed) for n in range(7) for seed in range(n)]
    (folder / "altered.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8"
    )
    (folder / "pages.xml").write_text(dump([page(n, altered(prose(n % 12), n)) for n in range(24)]), encoding="utf-8")
    return folder


def near_config(raw: Path, output: Path, near: dict[str, object] | None, **changes: object) -> CorpusConfig:
    sources = [
        {"type": "wikipedia", "paths": [str(raw / "wiki.xml.bz2"), str(raw / "pages.xml")]},
        {"type": "jsonl", "name": "lines", "paths": [str(raw / "lines.jsonl")]},
        {"type": "jsonl", "name": "altered", "paths": [str(raw / "altered.jsonl")]},
    ]
    return small_config(raw, output, sources=sources, dedup={"near": near}, **changes)


def texts(folder: Path) -> dict[str, list[str]]:
    """The documents of each split, as text."""
    corpus = Corpus(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    found = {}
    for split in corpus.splits:
        found[split] = []
        for name in corpus.shard_names(split):
            shard = Shard.open(folder, name, token_dtype(corpus.vocab_size))
            bounds = itertools.pairwise(shard.index["documents"].tolist())
            found[split] += [tokenizer.decode(shard.tokens[begin : end - 1].tolist()) for begin, end in bounds]
    return found


def test_one_of_each_cluster_stays_the_first(raw: Path, tmp_path: Path) -> None:
    counts = Corpus(run(near_config(raw, tmp_path / "corpus", {}))).manifest["counts"]
    everything = Corpus(run(near_config(raw, tmp_path / "all", None))).manifest["counts"]
    lost = {name: source["near_duplicates"] for name, source in counts["sources"].items()}
    # the altered lines come first by name, so of each cluster one of them stays, and so do the pages of the dump
    assert (counts["kept"], lost) == (19, {"altered": 15, "lines": 6, "wikipedia": 24})
    assert everything["near_duplicates"] == 0
    assert everything["kept"] == counts["kept"] + counts["near_duplicates"]
    assert counts["cluster_sizes"] == {"2": 1, "3": 13, "4": 1, "5": 1, "6": 1, "7": 1}
    assert "the first of each is kept: 45 left out" in (tmp_path / "corpus" / "DATASET_CARD.md").read_text()


def test_kept_together_no_cluster_is_in_two_splits(raw: Path, tmp_path: Path) -> None:
    def straddling(output: Path, near: dict[str, object] | None) -> int:
        run(near_config(raw, output, near, split={"valid": 0.3, "test": 0.3}))
        found = texts(output)
        assert sum(len(documents) for documents in found.values()) == 64
        words = {split: [set(text.split()) for text in documents] for split, documents in found.items()}
        pairs = itertools.combinations(words, 2)
        return sum(
            len(one & other) > 0.9 * len(one | other) for a, b in pairs for one in words[a] for other in words[b]
        )

    assert straddling(tmp_path / "corpus", {"action": "keep-together"}) == 0
    assert straddling(tmp_path / "apart", None) > 0


def found_members(folder: Path, texts: list[str]) -> list[dict[str, object]]:
    """What is written of texts that are dealt out to three units and compared in four parts."""
    for name in ("documents", "near", "errors"):
        (folder / name).mkdir()
    units = [Unit(number, "s", "text", "p", "n", 1, "", 0, 1) for number in range(3)]
    config = small_config(folder, folder / "corpus", dedup={"near": {"ngram": 1, "bands": 30, "rows": 1}})
    plan = Plan(folder, folder, config, units, {name: folder / name for name in ("documents", "near")})
    plan.save()
    for unit in units:
        rows = [{"text": text, "hash": f"{n:064d}"} for n, text in enumerate(texts)][unit.number :: 3]
        pq.write_table(pa.Table.from_pylist(rows), plan.file("documents", unit.number, "parquet"))
        near.write_bands(unit.number, str(folder))
    for part in range(4):
        near.write_links(part, str(folder), 4)
    near.write_clusters(plan, 4)
    plan.raise_first_error()
    return [member for unit in units for member in kept.members(plan, unit.number)]


def test_a_long_chain_of_overlapping_windows_is_one_cluster(tmp_path: Path) -> None:
    """Each shares half of its words with the next, and none with any other; they come in random order."""
    windows = [" ".join(f"w{word}" for word in range(50 * n, 50 * n + 100)) for n in range(300)]
    members = found_members(tmp_path, random.Random(0).sample(windows, 300))
    assert [member["size"] for member in members] == [300] + [0] * 299
    assert [member["row"] for member in members] == [*range(100)] * 3
    assert {member["cluster"] for member in members} == {"0" * 64}


def test_there_may_be_no_near_duplicates(tmp_path: Path) -> None:
    assert found_members(tmp_path, [f"w{n}" for n in range(9)]) == []


def test_the_corpus_does_not_depend_on_ranges_parts_or_processes(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = tmp_path / "streams"
    shutil.copytree(raw, streams)
    lines = (raw / "pages.xml").read_text().splitlines(keepends=True)
    parts = [lines[:1], lines[1:9], lines[9:17], lines[17:-1], lines[-1:]]
    (streams / "pages.xml").write_bytes(b"".join(bz2.compress("".join(part).encode()) for part in parts))
    digests, links = [], []
    for number, (size, options) in enumerate(
        [(10**9, []), (1000, []), (3000, ["--direct_running_mode=multi_processing"])]
    ):
        monkeypatch.setattr(near, "_PART_BYTES", size)
        config = near_config(streams, tmp_path / str(number), {})
        source = config.sources[0].model_copy(update={"range_bytes": [1, 10**9, 500][number]})
        config = config.model_copy(update={"sources": [source, *config.sources[1:]]})
        stages = tmp_path / f"stages-{number}"
        config = config.model_copy(update={"stages": stages})
        digests.append(read_json(run(config, options) / "manifest.json")["digest"])
        links.append(len(list(stages.glob("near-*/part-*"))))
    assert len(set(digests)) == 1
    assert links[0] == 1 < links[2] < links[1]
