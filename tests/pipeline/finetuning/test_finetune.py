"""Fine-tuning end to end on a random model of a few thousand weights, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    set_seed,
)

from pipeline.encoder.hugging_face import FAMILIES
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.errors import DigestError, InputError, RunError
from pipeline.export import build
from pipeline.files import file_sha256, read_json, write_json
from pipeline.finetuning.classifier import classification_scores
from pipeline.finetuning.finetune import finetune
from pipeline.finetuning.finetune_config import FinetuneConfig
from pipeline.finetuning.finetune_data import count_both, count_labels, read_examples

WORDS = {"sea": "ship wave sail salt storm", "wood": "oak deer moss leaf fern"}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `kilobatch export` writes it: RoBERTa with random weights, tokenizer, provenance."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *" ".join(WORDS.values()).split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", mask_token="<mask>", model_max_length=16, **names
    ).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=18,
        type_vocab_size=1,
    )
    set_seed(0)
    RobertaForMaskedLM(config).save_pretrained(folder)
    fingerprint = file_sha256(folder / "tokenizer.json")
    write_json(folder / "provenance.json", {"corpus_digest": "c0ffee", "tokenizer": {"fingerprint": fingerprint}})
    return folder


@pytest.fixture(params=sorted(FAMILIES), ids="-".join)
def of_any_kind(request: pytest.FixtureRequest, exported: Path, tmp_path: Path) -> Path:
    """The same folder with a model of ours in it, of each kind that is exported."""
    architecture, layer_norm = request.param
    folder = shutil.copytree(exported, tmp_path / "kind")
    config = ModelConfig(
        architecture=architecture,
        layer_norm=layer_norm,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=18 if architecture == "roberta" else 16,
    )
    vocabulary = read_json(folder / "config.json")["vocab_size"]
    build(MaskedLM(config, vocabulary), config, {"bos": 0, "pad": 1, "eos": 2}).save_pretrained(folder)
    assert read_json(folder / "config.json")["model_type"] == FAMILIES[request.param].model_type
    return folder


def rows(number: int, seed: int) -> list[dict[str, str | int]]:
    draw = np.random.default_rng(seed)
    labels = [list(WORDS)[i % 2] for i in range(number)]
    return [{"text": " ".join(draw.choice(WORDS[label].split(), 4)), "label": label} for label in labels]


def write_rows(path: Path, values: list[dict[str, str | int]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


@pytest.fixture
def config(exported: Path, tmp_path: Path) -> FinetuneConfig:
    return FinetuneConfig(
        model=exported,
        output=tmp_path / "out" / "task",
        train=write_rows(tmp_path / "train.jsonl", rows(48, 1)),
        valid=write_rows(tmp_path / "valid.jsonl", rows(20, 2)),
        epochs=4,
        learning_rate=1e-2,
        batch_size=8,
        max_length=16,
    )


def with_(config: FinetuneConfig, **changes: object) -> FinetuneConfig:
    return config.model_copy(update=changes)


def test_learns_publishes_and_is_then_up_to_date(config: FinetuneConfig, capsys: pytest.CaptureFixture[str]) -> None:
    config = with_(config, baseline=True)
    folder = finetune(config)
    printed = capsys.readouterr().out
    assert printed.count("macro-F1") == 2 * config.epochs + 3

    scores = read_json(folder / "scores.json")
    assert scores["labels"] == ["sea", "wood"]
    assert scores["majority"]["accuracy"] == 0.5
    assert scores["pretrained"]["accuracy"] == 1.0
    assert scores["margin"]["accuracy"] == scores["pretrained"]["accuracy"] - scores["random"]["accuracy"]
    assert [epoch["epoch"] for epoch in scores["epochs"]["random"]] == [1, 2, 3, 4]

    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    logits = model(**tokenizer("moss fern deer", return_tensors="pt")).logits
    assert model.config.id2label[int(logits.argmax())] == "wood"

    provenance = read_json(folder / "provenance.json")
    assert provenance["model"]["corpus_digest"] == "c0ffee"
    assert provenance["recipe"]["data"]["train"] == file_sha256(config.train)
    assert provenance["files"].keys() == {path.name for path in folder.iterdir()} - {"provenance.json"}
    assert file_sha256(folder / "tokenizer.json") == file_sha256(config.model / "tokenizer.json")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing unfinished is left"

    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert finetune(config) == folder
    assert "up to date" in capsys.readouterr().out
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="made with another learning_rate;"):
        finetune(with_(config, learning_rate=1e-3))
    write_rows(config.valid, rows(20, 3))
    with pytest.raises(InputError, match="made with another valid;"):
        finetune(config)


def test_a_task_model_can_be_fine_tuned_again_and_its_files_are_checked(config: FinetuneConfig) -> None:
    first = finetune(with_(config, epochs=1))
    again = with_(config, model=first, output=config.output.with_name("again"), epochs=1)
    assert read_json(finetune(again) / "provenance.json")["model"]["kind"] == "task model"
    shutil.rmtree(again.output)
    weights = bytearray((first / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (first / "model.safetensors").write_bytes(weights)
    with pytest.raises(DigestError, match=r"model\.safetensors: SHA-256"):
        finetune(again)
    with pytest.raises(DigestError, match=r"model\.safetensors: SHA-256"):
        finetune(with_(config, epochs=1))  # "up to date" is not said of a broken one


def test_a_model_of_each_kind_is_fine_tuned(config: FinetuneConfig, of_any_kind: Path) -> None:
    folder = finetune(with_(config, model=of_any_kind, epochs=3))
    assert read_json(folder / "scores.json")["pretrained"]["accuracy"] == 1.0
    begun = load_file(of_any_kind / "model.safetensors")
    ended = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).state_dict()
    words = next(name for name in begun if name.endswith("word_embeddings.weight"))
    unseen = SPECIAL.index("<mask>")  # only decayed
    torch.testing.assert_close(ended[words][unseen], begun[words][unseen], rtol=0.05, atol=0)
    with pytest.raises(InputError, match=r"max_length: found 17; .* has positions for 16 tokens"):
        finetune(with_(config, model=of_any_kind, max_length=17, output=config.output / "long"))


def test_one_seed_gives_one_result_and_another_gives_another(config: FinetuneConfig) -> None:
    weights = [
        (finetune(with_(config, epochs=1, seed=seed, output=config.output / name)) / "model.safetensors").read_bytes()
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    assert weights[0] == weights[1] != weights[2]


def test_whole_numbers_are_labels_in_the_order_of_their_values(config: FinetuneConfig) -> None:
    numbered: list[dict[str, str | int]] = [
        {"text": row["text"], "label": 10 if row["label"] == "sea" else 9} for row in rows(24, 4)
    ]
    changes = {"train": write_rows(config.train, numbered), "valid": write_rows(config.valid, numbered), "epochs": 1}
    assert read_json(finetune(with_(config, **changes)) / "scores.json")["labels"] == ["9", "10"]


def test_a_diverged_training_is_told_at_once_and_leaves_nothing(config: FinetuneConfig) -> None:
    with pytest.raises(RunError, match=r"^epoch 1: the validation loss is nan: it diverged; lower learning_rate$"):
        finetune(with_(config, learning_rate=1e30))
    assert list(config.output.parent.iterdir()) == []


def test_a_failure_leaves_no_output(config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pipeline.finetuning.classifier.save", fail)
    with pytest.raises(OSError, match="disk full"):
        finetune(with_(config, epochs=1))
    assert list(config.output.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_folder_that_lacks_a_file_is_refused(config: FinetuneConfig, tmp_path: Path, name: str) -> None:
    broken = shutil.copytree(config.model, tmp_path / "broken")
    (broken / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file; model: expected"):
        finetune(with_(config, model=broken))


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"model_type": "robert"}', '{"model_type": "roberta", "vocab_size": "x"}']
)
def test_a_model_folder_with_a_wrong_configuration_is_refused(
    config: FinetuneConfig, tmp_path: Path, text: str
) -> None:
    broken = shutil.copytree(config.model, tmp_path / "broken")
    (broken / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json: not the configuration of a model: .") as error:
        finetune(with_(config, model=broken))
    assert len(str(error.value).splitlines()) == 1


def test_another_tokenizer_than_the_provenance_names_is_refused(config: FinetuneConfig, tmp_path: Path) -> None:
    broken = shutil.copytree(config.model, tmp_path / "broken")
    named = read_json(broken / "provenance.json")["tokenizer"]["fingerprint"]
    (broken / "tokenizer.json").write_text((broken / "tokenizer.json").read_text().replace("moss", "mist"))
    with pytest.raises(DigestError) as error:
        finetune(with_(config, model=broken))
    assert named in str(error.value)
    assert file_sha256(broken / "tokenizer.json") in str(error.value)


def test_more_tokens_than_the_model_has_positions_are_refused(config: FinetuneConfig) -> None:
    with pytest.raises(InputError, match=r"max_length: found 17; .* has positions for 16 tokens"):
        finetune(with_(config, max_length=17))


def test_weights_of_half_an_encoder_are_refused(config: FinetuneConfig, tmp_path: Path) -> None:
    broken = shutil.copytree(config.model, tmp_path / "broken")
    settings = read_json(broken / "config.json")
    write_json(broken / "config.json", {**settings, "num_hidden_layers": 2})
    with pytest.raises(InputError, match=r"its weights lack roberta.encoder.layer.1"):
        finetune(with_(config, model=broken))


def test_an_output_that_is_something_else_is_kept(config: FinetuneConfig) -> None:
    config.output.mkdir(parents=True)
    (config.output / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not a task model"):
        finetune(config)
    assert (config.output / "thesis.txt").read_text() == "mine"
    with pytest.raises(InputError, match="model: exists and is not a task model"):
        finetune(with_(config, output=config.model))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"label": "a"}', ":2: no 'text'"),
        (b'{"text": "x", "lable": "a"}', ":2: no 'label'; found 'lable', 'text'; expected"),
        (b'{"text": "", "label": "a"}', ":2: text: found ''"),
        (b'{"text": 7, "label": "a"}', ":2: text: found 7"),
        (b'{"text": "x", "label": null}', ":2: label: found None"),
        (b'{"text": "x", "label": true}', ":2: label: found True"),
        (b'{"text": "x", "label": 1.5}', ":2: label: found 1.5"),
        (b'{"text": "x", "label": 3}', ": label 3 is a number and others are text"),
        (b'{"text": "x \\ud800", "label": "a"}', ":2: text: half a surrogate pair at character 2"),
        (b'{"text": "x", "label": "\\udfff"}', ":2: label: half a surrogate pair at character 0"),
        (b'["x", "a"]', ":2: found list"),
        (b'{"text": "x", ', ":2: not JSON"),
        (b'{"text": "\xff", "label": "a"}', ":2: not UTF-8 at byte 10"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "x", "label": "a"}\n' + line + b"\n")
    with pytest.raises(InputError, match=message):
        count_labels(path)


def test_missing_empty_and_one_sided_files_are_refused(tmp_path: Path) -> None:
    a, b = {"text": "x", "label": "comedy"}, {"text": "y", "label": "tragedy"}
    both = write_rows(tmp_path / "both.jsonl", [a, b])
    with pytest.raises(InputError, match="no such file or directory; expected a JSONL file"):
        count_labels(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="no examples"):
        count_labels(write_rows(tmp_path / "empty.jsonl", []))
    with pytest.raises(InputError, match="one label only, 'comedy'"):
        count_both(write_rows(tmp_path / "one.jsonl", [a, a]), both)
    strange = write_rows(tmp_path / "strange.jsonl", [a, b])
    strange.write_bytes(strange.read_bytes().replace(b"\n", b"\n\n").replace(b'"tragedy"', b'"tradegy"'))
    with pytest.raises(InputError, match=r":3: label 'tradegy' does not occur in .*; did you mean 'tragedy'"):
        count_both(both, strange)


def test_texts_are_read_as_they_are(tmp_path: Path) -> None:
    texts = ["2019-01-01", "a\u2028b", "17", "[1, 2]"]
    path = write_rows(tmp_path / "rows.jsonl", [{"text": text, "label": "a", "other": 1} for text in texts])
    assert [text for text, _ in read_examples(path)] == texts


def test_scores_of_a_worked_example() -> None:
    # class 0: TP 1, FP 1, FN 1 → 1/2; class 1: TP 1, FN 1 → 2/3; class 2 is predicted once and never true → 0
    scores = classification_scores(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]))
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50))
def test_scores_by_counting(pairs: list[tuple[int, int]]) -> None:
    predicted, actual = (np.array(side) for side in zip(*pairs, strict=True))
    scores = classification_scores(predicted, actual)
    f1 = []
    for c in {label for pair in pairs for label in pair}:
        precision = [a == c for p, a in pairs if p == c] or [False]
        recall = [p == c for p, a in pairs if a == c] or [False]
        p, r = sum(precision) / len(precision), sum(recall) / len(recall)
        f1.append(2 * p * r / (p + r) if p + r else 0.0)
    assert scores["macro_f1"] == pytest.approx(sum(f1) / len(f1))
    assert scores["accuracy"] == pytest.approx(sum(p == a for p, a in pairs) / len(pairs))
