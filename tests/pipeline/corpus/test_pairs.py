"""Segment pairs as they are read: `<s> A </s> B </s>`, what is B, and whether it follows A."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.corpus.pairs import Pairs
from pipeline.corpus.shards import Corpus, open_shards, write_shard
from pipeline.errors import InputError
from pipeline.files import MANIFEST, describe_files, read_json, seal, write_json
from tests.tiny import SPECIAL_IDS, tiny_corpus

BOS, PAD, EOS = (SPECIAL_IDS[name] for name in ("bos", "pad", "eos"))
LENGTH = 16


def as_pairs(folder: Path, pairs: list[list[list[int]]]) -> Corpus:
    """The tiny corpus with these pairs in the shards of both its splits instead of samples."""
    corpus = Corpus(tiny_corpus(folder, sequence_length=LENGTH))
    for split in ("train", "valid"):
        for name, shard, own in zip(corpus.shard_names(split), open_shards(corpus, split), pairs, strict=True):
            index: dict[str, Any] = {key: shard.index[key].copy() for key in ("documents", "sentences")}
            tokens = shard.tokens.copy()
            index[f"pairs.{LENGTH}"] = np.array(own, np.uint64).reshape(-1, 4)
            write_shard(folder, name, tokens, index)
    manifest = read_json(folder / MANIFEST)
    files = describe_files(folder, list(manifest["files"]))
    write_json(folder / MANIFEST, seal({**manifest, "packing": "segment-pair", "files": files}))
    return Corpus(folder)


def test_pairs_are_read_with_types_and_labels(tmp_path: Path) -> None:
    second = int(Corpus(tiny_corpus(tmp_path / "plain")).split("train", LENGTH).shards[0].index["documents"][1])
    corpus = as_pairs(tmp_path / "corpus", [[[0, 5, 5, 9], [7, 8, second, second + 12]], [[3, 9, 20, 24]]])
    pairs = Pairs(corpus, "train", LENGTH)
    assert len(pairs) == 3
    numbers = np.array([2, 1, 0, 1])
    batch = pairs.read(numbers)
    shards = [pairs.shards[0].tokens.tolist(), pairs.shards[1].tokens.tolist()]
    expected = {
        0: (shards[0][0:5], shards[0][5:9], 0),
        1: (shards[0][7:8], shards[0][second : second + 12], 1),
        2: (shards[1][3:9], shards[1][20:24], 0),
    }
    for row, number in enumerate(numbers.tolist()):
        a, b, label = expected[number]
        rest = LENGTH - 3 - len(a) - len(b)
        assert batch.input_ids[row].tolist() == [BOS, *a, EOS, *b, EOS, *[PAD] * rest]
        assert batch.token_type_ids[row].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * rest
        assert batch.next_sentence_label[row] == label


def test_what_does_not_fit(tmp_path: Path) -> None:
    corpus = as_pairs(tmp_path / "corpus", [[[0, 5, 5, 9]], []])
    assert len(Pairs(corpus, "train", LENGTH)) == 1
    with pytest.raises(InputError, match=r"packing: found segment-pair; accepted here: full-sentences, doc-sentences"):
        corpus.split("train", LENGTH)
    with pytest.raises(InputError, match="not packed for sequences of 17 tokens; it has 16"):
        Pairs(corpus, "train", 17)
    with pytest.raises(InputError, match="packing: found full-sentences; accepted here: segment-pair"):
        Pairs(Corpus(tiny_corpus(tmp_path / "plain")), "train", LENGTH)
    with pytest.raises(InputError, match="the train split has no pairs"):
        Pairs(as_pairs(tmp_path / "none", [[], []]), "train", LENGTH)
