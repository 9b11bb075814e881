"""The sentences that the tokenizer is trained on: a bounded sample that no order of the input changes."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from preprocess.config import ByteBpeConfig
from preprocess.dedup import content_hash
from preprocess.sample import SCHEMA, choose, draw_sentences, gather, threshold
from preprocess.sentences import sentences

TEXTS = [
    "\n".join(f"Document {number} has a line {line}. It has a second sentence." for line in range(20))
    for number in range(50)
]


def drawn(texts: list[str], below: int, seed: int = 0) -> list[tuple[int, list[str]]]:
    return [row for text in texts for row in draw_sentences(text, content_hash(text), seed, below)]


def test_all_sentences_are_taken_when_the_bound_allows_it() -> None:
    everything = choose(drawn(TEXTS, 2**64), 10**9)
    assert sorted(everything) == sorted(sentence for text in TEXTS for sentence in sentences(text))


def test_the_order_of_documents_does_not_matter_and_the_seed_does() -> None:
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    assert choose(drawn(TEXTS, 2**62), 5_000) == choose(drawn(shuffled, 2**62), 5_000)
    assert choose(drawn(TEXTS, 2**62), 5_000) != choose(drawn(TEXTS, 2**62, seed=1), 5_000)


def test_a_smaller_bound_takes_the_beginning_of_the_sample() -> None:
    large, small = choose(drawn(TEXTS, 2**64), 5_000), choose(drawn(TEXTS, 2**64), 2_000)
    assert large[: len(small)] == small
    assert 1_900 < sum(map(len, small)) <= 2_000


def test_the_threshold_fills_the_bound() -> None:
    characters = sum(map(len, TEXTS))
    config = ByteBpeConfig(sample_characters=characters // 4)
    found = sum(len(sentence) for _, line in drawn(TEXTS, threshold(config, characters)) for sentence in line)
    assert 0.2 * characters < found < 0.32 * characters


def test_sentences_too_long_for_the_trainer_are_left_out() -> None:
    assert choose([(1, ["x" * 5_000, "short."])], 10**9) == ["short."]


@pytest.mark.parametrize(("found", "bound"), [([], 100), (["x" * 5_000, "y" * 5_000], 10**6), (["short."], 3)])
def test_no_sentence_to_train_on_is_one_line_that_says_why(tmp_path: Path, found: list[str], bound: int) -> None:
    rows = [{"draw": 1, "sentences": found}] if found else []
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "unit.parquet")
    said = rf"^tokenizer: no sentence to train on: {len(found)} were drawn .* at most 4192 bytes, .*={bound}; [^\n]*$"
    with pytest.raises(InputError, match=said):
        gather([tmp_path / "unit.parquet"], bound)
