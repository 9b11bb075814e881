"""Splits, shards and duplicates follow from content alone."""

import hashlib
import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.config import FilterConfig, ShardsConfig, SplitConfig
from preprocess.dedup import Claim, content_hash, key_of, losers
from preprocess.filters.length import refuse
from preprocess.split import BINS, bin_of, cut, rank_of, shard_key, shard_keys, shard_of, split_of

HASHES = [content_hash(str(number)) for number in range(4000)]


def test_split_takes_its_fraction_and_a_larger_one_only_adds() -> None:
    def chosen(seed: int, name: str = "valid", **fractions: float) -> set[str]:
        return {hash for hash in HASHES if split_of(hash, seed, SplitConfig(**fractions)) == name}

    small, large = chosen(1, valid=0.05), chosen(1, valid=0.10)
    assert small < large
    assert 140 < len(small) < 260
    assert small != chosen(2, valid=0.05)
    assert chosen(1, valid=0.05, test=0.05) == small
    assert chosen(1, "test", valid=0.05, test=0.05) == large - small
    with pytest.raises(ValueError, match="expected less than 1 in all"):
        SplitConfig(valid=0.5, test=0.5)


def test_shards_are_even_and_of_the_split() -> None:
    shards, split = ShardsConfig(train=3, valid=2, test=1), SplitConfig(valid=0.3, test=0.2)
    tokens = {name: np.zeros(BINS, np.int64) for name in split.names}
    for number, hash in enumerate(HASHES):
        tokens[split_of(hash, 1, split)][bin_of(hash, 1)] += 100 + number % 100
    cuts = {name: cut(tokens[name], len(shard_keys(name, shards))) for name in split.names}
    counts = dict.fromkeys(range(6), 0)
    ranks: dict[int, list[int]] = {key: [] for key in range(6)}
    for number, hash in enumerate(HASHES):
        name = split_of(hash, 1, split)
        key = shard_key(name, hash, 1, shards, cuts[name])
        counts[key] += 100 + number % 100
        assert shard_of(key, shards)[0] == name
        ranks[key].append(rank_of(hash, 1))
    for name in split.names:
        keys = shard_keys(name, shards)
        assert all(abs(counts[key] * len(keys) / tokens[name].sum() - 1) < 0.01 for key in keys)
    assert max(ranks[0]) < min(ranks[1]) <= max(ranks[1]) < min(ranks[2]), "shards are ranges of ranks"
    assert [shard_of(key, shards) for key in (0, 2, 3, 4, 5)] == [
        ("train", 0, 3), ("train", 2, 3), ("valid", 0, 2), ("valid", 1, 2), ("test", 0, 1)
    ]  # fmt: skip
    assert [list(shard_keys(name, shards)) for name in split.names] == [[0, 1, 2], [3, 4], [5]]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 9))
def test_a_shard_has_its_share_give_or_take_a_bin(tokens: list[int], shards: int) -> None:
    cuts = cut(np.array(tokens), shards)
    assert cuts == sorted(cuts)
    assert len(cuts) == shards - 1
    borders = [0, *cuts, len(tokens)]
    sizes = [sum(tokens[begin:end]) for begin, end in itertools.pairwise(borders)]
    assert sum(sizes) == sum(tokens)
    assert all(abs(size - sum(tokens) / shards) <= max(tokens) + 1 for size in sizes)


def test_content_hash_is_blind_to_case_and_spacing_only() -> None:
    assert content_hash("A  b\n\nC") == content_hash("a B c")
    assert content_hash("a b") != content_hash("ab")
    assert content_hash("Straße   d\n\n\n\ne") == hashlib.sha256(b"strasse d e").hexdigest()
    assert 0 <= key_of("f" * 64) < 2**63


@given(st.lists(st.tuples(st.sampled_from("pq"), st.text("ab", min_size=1, max_size=2), st.integers(0, 1))))
def test_the_smallest_id_of_each_hash_stays_whatever_shares_its_id(documents: list[tuple[str, str, int]]) -> None:
    claims = [Claim(hash, id, unit, row, 1) for row, (hash, id, unit) in enumerate(documents)]
    found = losers(random.Random(0).sample(claims, len(claims)))
    assert found == losers(claims)
    lost = {(unit, loser.row): loser for unit, loser in found}
    assert len(lost) == len(found)
    for hash in "pq":
        same = [claim for claim in claims if claim.hash == hash]
        kept = [claim for claim in same if (claim.unit, claim.row) not in lost]
        assert [claim.id for claim in kept] == ([min(claim.id for claim in same)] if same else [])
        assert all(lost[claim.unit, claim.row].kept == kept[0].id for claim in same if claim not in kept)


@pytest.mark.parametrize(("text", "rule"), [("", "empty"), ("a" * 9, "too-short"), ("a" * 10, None)])
def test_filters(text: str, rule: str | None) -> None:
    refused = refuse(text, FilterConfig(min_characters=10))
    assert (refused[0] if refused else None) == rule
