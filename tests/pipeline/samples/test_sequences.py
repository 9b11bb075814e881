"""Padding is not computed, and where documents are apart each is computed as if it stood alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configfile import load_config
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.evaluate_saved import Exported
from pipeline.export import build
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.data import TrainBatches, micro_batch
from pipeline.samples.sequences import Sequences
from tests.tiny import SPECIAL_IDS, tiny_corpus

VOCABULARY, TOKENS = 40, 16
CONFIG = ModelConfig(
    num_hidden_layers=2,
    hidden_size=12,
    num_attention_heads=2,
    intermediate_size=20,
    max_position_embeddings=TOKENS + 2,
    initializer_range=0.3,
)
NOTHING = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def model() -> MaskedLM:
    return MaskedLM(CONFIG, VOCABULARY, seed=1).eval()


def rows_of(documents: list[list[int]]) -> np.ndarray:
    """Documents (each a list of lengths of its row's documents) as rows `<s> … </s> … </s> <pad>`."""
    random = np.random.default_rng(0)
    ids = np.full((len(documents), TOKENS), SPECIAL_IDS["pad"], np.int32)
    for row, lengths in enumerate(documents):
        ids[row, 0], end = SPECIAL_IDS["bos"], 1
        for length in lengths:
            ids[row, end : end + length] = random.integers(5, VOCABULARY, length)
            ids[row, end + length] = SPECIAL_IDS["eos"]
            end += length + 1
    return ids


rows = st.lists(
    st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(lambda row: sum(row) + len(row) < TOKENS),
    min_size=1,
    max_size=4,
)


@given(rows)
def test_tokens_stand_one_behind_the_other_and_count_from_their_sequence(documents: list[list[int]]) -> None:
    ids = rows_of(documents)
    sequences = Sequences.in_rows(ids != SPECIAL_IDS["pad"])
    lengths = [1 + sum(row) + len(row) for row in documents]
    assert sequences.lengths == tuple(lengths)
    assert sequences.starts.tolist() == np.cumsum([0, *lengths]).tolist()
    assert sequences.places().tolist() == [place for length in lengths for place in range(length)]
    (cells,) = (ids.reshape(-1) != SPECIAL_IDS["pad"]).nonzero()
    packed, positions = sequences.pack(torch.from_numpy(ids), torch.from_numpy(cells[::2]))
    assert packed.tolist() == ids.reshape(-1)[cells].tolist()
    assert packed[positions].tolist() == ids.reshape(-1)[cells[::2]].tolist()
    dense = torch.zeros(len(lengths), max(lengths), dtype=torch.int32)
    dense.view(-1)[sequences.cells()] = packed
    assert dense[:, : ids.shape[1]].tolist() == (ids * (ids != SPECIAL_IDS["pad"]))[:, : max(lengths)].tolist()


@given(rows)
def test_a_document_in_a_pack_is_computed_as_alone(model: MaskedLM, documents: list[list[int]]) -> None:
    ids = rows_of(documents)
    batch = micro_batch(0, NOTHING, ids, NOTHING, NOTHING, SPECIAL_IDS, "apart")
    assert batch.sequences is not None
    assert len(batch.sequences.lengths) == sum(map(len, documents))
    tokens = torch.from_numpy((ids.reshape(-1) != SPECIAL_IDS["pad"]).nonzero()[0])
    with torch.no_grad():
        together = model(batch.input_ids, batch.sequences, tokens)
        flat, first = batch.input_ids.flatten()[tokens], 0
        for length in batch.sequences.lengths:
            alone = model(flat[None, first : first + length], None, torch.arange(length))
            torch.testing.assert_close(together[first : first + length], alone, atol=1e-5, rtol=1e-4)
            assert flat[first + length - 1] == SPECIAL_IDS["eos"]
            first += length


def test_together_they_are_not(model: MaskedLM) -> None:
    ids = rows_of([[4, 5]])
    with torch.no_grad():
        apart, together = (
            model(batch.input_ids, batch.sequences, torch.arange(5, 10))
            for batch in (
                micro_batch(0, NOTHING, ids, NOTHING, NOTHING, SPECIAL_IDS, "apart"),
                micro_batch(0, NOTHING, ids, NOTHING, NOTHING, SPECIAL_IDS, "together"),
            )
        )
    assert float((apart - together).abs().max()) > 0.1


def test_an_exported_model_is_scored_with_its_documents_apart(model: MaskedLM) -> None:
    positions = np.array([2, 6, 17, 21, 26])
    labels = np.array([7, 8, 9, 10, 11])
    for documents in ("apart", "together"):
        batch = micro_batch(0, NOTHING, rows_of([[3, 5], [1, 0, 9]]), positions, labels, SPECIAL_IDS, documents)
        with torch.no_grad():
            expected = model(batch.input_ids, batch.sequences, batch.positions, batch.labels, "none")
            exported = Exported(build(model, CONFIG, SPECIAL_IDS).eval())
            found = exported(batch.input_ids, batch.sequences, batch.positions, batch.labels, "none")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_configuration_keeps_the_documents_of_a_corpus_apart(pretrain_yaml: Path, tmp_path: Path) -> None:
    """Real shards whose samples go on over the ends of documents; masking moves no border."""
    corpus = tiny_corpus(tmp_path / "full", full=True)
    config = load_config(PretrainConfig, pretrain_yaml, [f"corpus={corpus}", "batch.documents=apart"])
    batches = TrainBatches(corpus, config, BatchGeometry(8, 4, 1))
    crossing = 0
    for batch in batches[range(30)]:
        rows = batches.split.read(batch.samples)
        closes = [np.flatnonzero(row == SPECIAL_IDS["eos"]) + 1 for row in rows]
        assert batch.sequences is not None
        assert batch.sequences.lengths == tuple(np.concatenate([np.diff(ends, prepend=0) for ends in closes]).tolist())
        crossing += sum(len(ends) > 1 for ends in closes)
    assert crossing > 5
    together = TrainBatches(corpus, load_config(PretrainConfig, pretrain_yaml), BatchGeometry(8, 4, 1))
    assert all(batch.sequences is None or len(batch.sequences.lengths) == 4 for batch in together[range(30)])


def test_compiled_layers_are_the_same_function_under_the_same_names(model: MaskedLM) -> None:
    """Traced only, since a compiler takes minutes; attention and dropout of CPUs stay outside."""
    compiled = MaskedLM(CONFIG, VOCABULARY, seed=1).train()
    compiled.compile_layers(backend="eager")
    assert list(compiled.state_dict()) == list(model.state_dict())
    plain = MaskedLM(CONFIG, VOCABULARY, seed=1).train()
    labels = torch.tensor([7, 8, 9])
    for documents in ([[3, 5], [4]], [[9]], [[1, 2, 3], [4, 4], [6]]):
        batch = micro_batch(0, NOTHING, rows_of(documents), np.array([1, 2, 3]), labels.numpy(), SPECIAL_IDS, "apart")
        for each in (plain, compiled):
            torch.manual_seed(1)
            each(batch.input_ids, batch.sequences, batch.positions, labels).backward()
    for (name, ours), theirs in zip(compiled.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    torch._dynamo.reset()
