"""Held-out scores: the published formulas, the same digits on any number of ranks, and only with their own corpus."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.corpus.shards import Corpus
from pipeline.encoder.model import MaskedLM
from pipeline.errors import InputError
from pipeline.evaluate import HeldOut, exponential
from pipeline.evaluate_saved import evaluate
from pipeline.samples.data import collate
from pipeline.samples.sequences import Sequences
from tests.pipeline.one_evaluation import CONFIG, EVALUATION
from tests.pipeline.one_evaluation import evaluate as scores_of
from tests.ranks import run_ranks
from tests.tiny import SPECIAL_IDS, tiny_corpus


def test_three_ranks_give_the_digits_of_one(corpus: Path) -> None:
    """Of six micro-batches each has two; of the pseudo-perplexity's eleven or so one rank repeats one for nothing."""
    printed = run_ranks(3, ["-m", "tests.pipeline.one_evaluation", str(corpus)])
    assert printed.splitlines()[-1] == repr(scores_of(corpus))


def test_the_loss_is_the_mean_over_the_tokens_of_all_samples(corpus: Path) -> None:
    opened = Corpus(corpus)
    held_out = HeldOut(opened, 16, EVALUATION)
    model = MaskedLM(CONFIG, opened.vocab_size, seed=1).double().train()
    scores = held_out.scores(model, torch.device("cpu"))
    assert model.training, "as it was before"
    samples = held_out.order[np.arange(22)]
    (batch,) = collate(held_out.split, held_out.masker, [0], samples, samples)
    logits = model.eval()(batch.input_ids, batch.sequences, batch.positions).detach()
    assert scores.loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, batch.labels)), rel=1e-12)
    assert scores.perplexity == pytest.approx(math.exp(scores.loss))


def test_masks_are_of_the_corpus_alone(tmp_path: Path) -> None:
    first, again, other = (
        HeldOut(Corpus(tiny_corpus(tmp_path / name, seed=seed)), 16, EVALUATION)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first.masker.key == again.masker.key != other.masker.key


def test_pseudo_perplexity_masks_one_token_at_a_time(corpus: Path) -> None:
    """PPPL = exp(−1/N · Σ log p(token | all others)) over the N ordinary tokens, as one would write it down."""
    opened = Corpus(corpus)
    held_out = HeldOut(opened, 16, EVALUATION)
    model = MaskedLM(CONFIG, opened.vocab_size, seed=1).double().eval()
    logs = []
    for ids in torch.from_numpy(held_out.split.read(held_out.order[np.arange(3)])):
        for place, token in enumerate(ids.tolist()):
            if token in SPECIAL_IDS.values():
                continue
            masked = ids.clone()
            masked[place] = SPECIAL_IDS["mask"]
            tokens = (ids != SPECIAL_IDS["pad"])[None].numpy()
            logits = model(masked[None], Sequences.in_rows(tokens), torch.tensor([place]))
            logs.append(float(logits.detach().log_softmax(1)[0, token]))
    assert 20 < len(logs) <= 3 * 15
    scores = held_out.scores(model, torch.device("cpu"))
    assert scores.pseudo_perplexity == pytest.approx(math.exp(-sum(logs) / len(logs)), rel=1e-12)
    without = HeldOut(opened, 16, EVALUATION.model_copy(update={"pseudo_perplexity_samples": 0}))
    assert without.scores(model, torch.device("cpu")).pseudo_perplexity is None


def test_a_diverged_model_has_infinite_perplexity() -> None:
    assert exponential(1e6) == math.inf
    assert exponential(2.0) == math.exp(2.0)


def write_provenance(folder: Path, corpus: Corpus, **changed: object) -> Path:
    provenance = {
        "files": {},
        "corpus_digest": corpus.digest,
        "tokenizer": {"fingerprint": corpus.tokenizer_fingerprint},
        "config": {"batch": {"sequence_length": 16, "documents": "together"}, "evaluation": EVALUATION.model_dump()},
    }
    folder.mkdir()
    (folder / "provenance.json").write_text(json.dumps({**provenance, **changed}))
    return folder


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"corpus_digest": "x"}, "its corpus_digest is x, this corpus has "),
        ({"tokenizer": {"fingerprint": "y"}}, "its tokenizer_fingerprint is y, this corpus has "),
        ({"tokenizer": []}, "provenance.json: tokenizer: "),
        ({"tokenizer": {}}, "provenance.json: not that of an export: "),
        (
            {"config": {"batch": {"sequence_length": 16, "documents": "together"}, "evaluation": {"samples": 0}}},
            "not that of an export: ",
        ),
        ({"files": {"config.json": {"bytes": 1, "sha256": "z"}}}, "config.json: "),
    ],
)
def test_a_model_of_another_corpus_is_refused(
    corpus: Path, tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    model = write_provenance(tmp_path / "model", Corpus(corpus), **changed)
    with pytest.raises(ValueError, match=r".+") as refused:
        evaluate(model, corpus)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_neither_run_nor_model_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a run"):
        evaluate(tmp_path / "nothing", corpus)
