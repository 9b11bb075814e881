"""Going on from a Hugging Face model: the same function as theirs, and folders that are not fit are one line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoModelForSequenceClassification

from pipeline.configfile import dump_config, load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.initial import initial_model, load_start
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_folder import check_start
from pipeline.encoder.vocabulary import read_vocabulary
from pipeline.errors import DigestError, InputError
from pipeline.files import MANIFEST, describe_files, file_sha256, read_json, seal, write_json
from pipeline.pretrain_config import PretrainConfig
from pipeline.provenance import verify_provenance
from pipeline.samples.sequences import Sequences
from tests.conftest import flip_byte
from tests.their_models import VOCABULARY, their_model

TYPES = ["roberta", "bert", "roberta-prelayernorm", "megatron-bert"]
UNKNOWN = "no tokenizer: that its ids are the corpus's is taken for granted"


def configured(pretrain_yaml: Path, folder: Path, *overrides: str) -> PretrainConfig:
    return load_config(PretrainConfig, pretrain_yaml, [f"model={{init_from: {folder}}}", *overrides])


def started(config: PretrainConfig) -> tuple[MaskedLM, str]:
    corpus = Corpus(config.corpus)
    check_start(config.model, corpus)
    model = initial_model(config, corpus)
    return model.eval(), load_start(model, config.model)


def batch(padding: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids (B, T) padded at the ends, their mask, and all tokens (N,)."""
    ids = torch.randint(5, VOCABULARY, (3, 16), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate((16, 9, 3)):
        ids[row, length:] = padding
    mask = ids != padding
    return ids, mask, mask.flatten().nonzero().squeeze(1)


def assert_the_same_function(ours: MaskedLM, folder: Path, padding: int = 1) -> None:
    theirs = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids, mask, tokens = batch(padding)
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=mask.long()).logits.flatten(0, 1)[tokens]
        torch.testing.assert_close(ours(ids, Sequences.in_rows(mask.numpy()), tokens), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", [*TYPES, "xlm-roberta", "camembert"])
def test_what_begins_is_their_function(pretrain_yaml: Path, tmp_path: Path, model_type: str) -> None:
    """RoBERTa's token type, of which ours has none, is not zero here."""
    folder = their_model(tmp_path / "model", model_type)
    config = configured(pretrain_yaml, folder)
    ours, said = started(config)
    assert said == f"begins with the weights of {folder}, which has {UNKNOWN}"
    assert_the_same_function(ours, folder)
    found = config.model
    assert (found.hidden_size, found.num_attention_heads, found.hidden_dropout_prob) == (12, 3, 0.25)
    assert found.max_position_embeddings == 20


@pytest.mark.parametrize("model_type", TYPES)
def test_a_model_without_a_head_brings_its_encoder(pretrain_yaml: Path, tmp_path: Path, model_type: str) -> None:
    """Saved alone, without the prefix; or in a classifier, with it."""
    for number, kind in enumerate((AutoModel, AutoModelForSequenceClassification)):
        folder = their_model(tmp_path / str(number), model_type, kind)
        config = configured(pretrain_yaml, folder, "model.output_bias_init=unigram")
        ours, said = started(config)
        assert said.endswith(f", which has no head: a new one begins; {UNKNOWN}")
        assert ours.head.bias.min() < -1, "unigram"
        assert ours.head.dense.weight.std().item() == pytest.approx(0.02, rel=0.2)
        theirs = AutoModel.from_pretrained(folder).eval()
        ids, mask, tokens = batch()
        with torch.no_grad():
            hidden = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state.flatten(0, 1)[tokens]
            ours.head = torch.nn.Identity()  # type: ignore[assignment]
            ours.head.forward = lambda hidden_ND, *_: hidden_ND  # type: ignore[method-assign]
            torch.testing.assert_close(ours(ids, Sequences.in_rows(mask.numpy()), tokens), hidden, atol=1e-5, rtol=1e-5)


def rename_norms(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the first BERTs have them."""
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.items()
    }


def test_weights_in_several_files_in_half_precision_and_under_old_names(pretrain_yaml: Path, tmp_path: Path) -> None:
    sharded = their_model(tmp_path / "sharded", max_shard_size="4KB")
    assert not (sharded / "model.safetensors").exists()
    assert_the_same_function(started(configured(pretrain_yaml, sharded))[0], sharded)
    for dtype in (torch.bfloat16, torch.float16):
        half = their_model(tmp_path / str(dtype))
        weights = load_file(half / "model.safetensors")
        save_file(
            {name: tensor.to(dtype) for name, tensor in weights.items()}, half / "model.safetensors", {"format": "pt"}
        )
        assert_the_same_function(started(configured(pretrain_yaml, half))[0], half)
    old = their_model(tmp_path / "old", "bert", AutoModelForPreTraining)  # with a head for next sentences
    weights = rename_norms(load_file(old / "model.safetensors"))
    assert any(name.endswith("gamma") for name in weights)
    save_file(weights, old / "model.safetensors", {"format": "pt"})
    assert_the_same_function(started(configured(pretrain_yaml, old))[0], old)


def test_positions_are_counted_from_behind_their_padding(pretrain_yaml: Path, corpus: Path, tmp_path: Path) -> None:
    manifest = read_json(corpus / MANIFEST)
    manifest["tokenizer"]["special_ids"] |= {"pad": 4, "mask": 1}
    write_json(corpus / MANIFEST, seal(manifest))
    folder = their_model(tmp_path / "model", pad_token_id=4, max_position_embeddings=21)
    config = configured(pretrain_yaml, folder)
    assert config.model.max_position_embeddings == 18  # three less: two are before the first, not five
    assert_the_same_function(started(config)[0], folder, padding=4)
    with pytest.raises(InputError, match=r"sequence_length 16 needs model\.max_position_embeddings of at least 18"):
        configured(pretrain_yaml, their_model(tmp_path / "short", pad_token_id=4, max_position_embeddings=20))


def test_a_resolved_configuration_needs_the_folder_no_more(pretrain_yaml: Path, tmp_path: Path) -> None:
    config = configured(pretrain_yaml, their_model(tmp_path / "model"))
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(config))
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    again = load_config(PretrainConfig, path)
    assert again == config
    moved = configured(pretrain_yaml, tmp_path / "elsewhere")
    assert moved.recipe() == config.recipe(), "the weights decide, not the place"
    flip_byte(tmp_path / "elsewhere" / "model.safetensors", -1)
    assert configured(pretrain_yaml, tmp_path / "elsewhere").recipe() != config.recipe()
    with pytest.raises(
        DigestError, match=r"elsewhere: SHA-256 of its weights \w{64}, the run was configured with \w{64}"
    ):
        load_start(initial_model(moved, Corpus(moved.corpus)), moved.model)
    with pytest.raises(DigestError, match=r"elsewhere: SHA-256 of its weights"):
        check_start(moved.model, Corpus(moved.corpus))


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["model.hidden_size=16"], "model: hidden_size: found 16; FOLDER/config.json has 12"),
        (["model.name=roberta-base"], "model: hidden_size: found 768; FOLDER/config.json has 12"),
        (["model.name=bert-base"], "model: architecture: found 'bert'; FOLDER/config.json has 'roberta'"),
        (["model.layer_norm=pre"], "model: layer_norm: found 'pre'; FOLDER/config.json has 'post'"),
        (["model.max_position_embeddings=514"], "max_position_embeddings: found 514; FOLDER/config.json has 20"),
        (["model.position_init=sinusoidal"], "position_init sinusoidal is for fresh weights"),
        (["model.output_bias_init=unigram"], "output_bias_init: unigram is for a fresh head; FOLDER brings its own"),
        (
            ["model.init_from=nowhere"],
            "nowhere: no such folder; expected a Hugging Face model: config.json and model",
        ),
        (["model.init_from=7"], "model.init_from: found 7; expected"),
        (["model.hiden_size=12"], "unknown key 'model.hiden_size'; did you mean 'hidden_size'?"),
    ],
)
def test_what_contradicts_the_folder(pretrain_yaml: Path, tmp_path: Path, overrides: list[str], complaint: str) -> None:
    folder = their_model(tmp_path / "model")
    with pytest.raises(InputError, match=re.escape(complaint.replace("FOLDER", str(folder)))) as caught:
        configured(pretrain_yaml, folder, *overrides)
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_run_sets_itself_contradicts_nothing(pretrain_yaml: Path, tmp_path: Path) -> None:
    folder = their_model(tmp_path / "model")
    settings = ["model.hidden_dropout_prob=0.5", "model.num_hidden_layers=2", "model.initializer_range=0.1"]
    config = configured(pretrain_yaml, folder, *settings)
    assert config.model.hidden_dropout_prob == 0.5
    assert config.model.initializer_range == 0.1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"model_type": "gpt2"},
            "config.json: model_type: found 'gpt2'; accepted: bert, camembert, megatron-bert",
        ),
        ({"model_type": "robert"}, "config.json: model_type: found 'robert'; did you mean 'roberta'?"),
        ({"hidden_size": "12"}, "config.json: hidden_size: found '12'; expected a valid integer"),
        ({"hidden_size": None}, "config.json: hidden_size: found None; expected a valid integer"),
        ({"hidden_act": "gelu_new"}, "config.json: hidden_act: found 'gelu_new'; expected 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type: found 'relative_key'; expected 'absol"),
        ({"tie_word_embeddings": False}, "config.json: tie_word_embeddings: found False; expected True"),
        ({"is_decoder": True}, "config.json: is_decoder: found True; expected False"),
        ({"max_position_embeddings": 2}, "max_position_embeddings: found 2, which leave none to tokens"),
        ({"num_attention_heads": 5}, "hidden_size 12 is not a multiple of num_attention_heads 5"),
        ({"model_type": "bert", "type_vocab_size": 3}, "config.json: type_vocab_size: found 3; accepted: 2"),
        ({"vocab_size": 63}, "config.json: vocab_size: found 63; the corpus CORPUS has 64"),
        ({"pad_token_id": 0}, "config.json: pad_token_id: found 0; the corpus CORPUS has 1"),
        ({"intermediate_size": 21}, "intermediate.dense.weight: found shape [20, 12], expected [21, 12]"),
        ({"num_hidden_layers": 3}, "its weights lack roberta.encoder.layer.2."),
    ],
)
def test_a_configuration_that_is_not_trained_here(
    pretrain_yaml: Path, corpus: Path, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    folder = their_model(tmp_path / "model")
    settings = {**read_json(folder / "config.json"), **changes}
    write_json(folder / "config.json", settings)
    with pytest.raises(InputError, match=re.escape(complaint.replace("CORPUS", str(corpus)))) as caught:
        check_start(configured(pretrain_yaml, folder).model, Corpus(corpus))
    assert len(str(caught.value).splitlines()) == 1
    write_json(folder / "config.json", {key: value for key, value in settings.items() if key != "model_type"})
    with pytest.raises(InputError, match=r"config\.json: key 'model_type' is missing"):
        configured(pretrain_yaml, folder)


def test_pickled_missing_and_broken_weights(pretrain_yaml: Path, tmp_path: Path) -> None:
    folder = their_model(tmp_path / "model")
    weights, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(InputError, match=r"model\.safetensors: not a safetensors file: "):
        check_start(configured(pretrain_yaml, folder).model, Corpus(tmp_path / "corpus"))
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"its weights are pickled \(pytorch_model\.bin\), and unpickling runs"):
        configured(pretrain_yaml, folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"model: no weights; expected model\.safetensors or model\.safe"):
        configured(pretrain_yaml, folder)
    for name in ("../other.safetensors", "model-00001-of-00001.safetensors"):
        index.write_text(json.dumps({"weight_map": {"roberta.embeddings.word_embeddings.weight": name}}))
        with pytest.raises(InputError, match=r"index\.json: names a file '.*' that is not in the folder"):
            configured(pretrain_yaml, folder)
    index.write_text("{}")
    with pytest.raises(InputError, match=r"index\.json: no weight_map"):
        configured(pretrain_yaml, folder)


def test_values_and_types_that_are_no_weights(pretrain_yaml: Path, corpus: Path, tmp_path: Path) -> None:
    folder = their_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.dense.weight"][0, 0] = torch.inf
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lm_head\.dense\.weight holds values that are not finite numbers"):
        started(configured(pretrain_yaml, folder))
    weights["lm_head.dense.weight"] = torch.zeros(12, 12, dtype=torch.int8)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lm_head\.dense\.weight: found I8; accepted: BF16, F16, F32, F64"):
        started(configured(pretrain_yaml, folder))


def test_an_export_of_ours_is_compared_with_its_provenance(pretrain_yaml: Path, tmp_path: Path) -> None:
    folder = their_model(tmp_path / "model")
    assert verify_provenance(folder) is None
    start = configured(pretrain_yaml, folder).model
    write_json(folder / "provenance.json", {"files": describe_files(folder, ["config.json", "model.safetensors"])})
    check_start(start, Corpus(tmp_path / "corpus"))
    flip_byte(folder / "model.safetensors", -1)
    with pytest.raises(DigestError, match=r"model\.safetensors: SHA-256"):
        check_start(configured(pretrain_yaml, folder).model, Corpus(tmp_path / "corpus"))


def tokenizer(path: Path, tokens: list[str]) -> Path:
    unigram = {"type": "Unigram", "vocab": [[token, -1.0] for token in tokens]}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"model": unigram, "added_tokens": [{"id": 0, "content": tokens[0]}]}))
    return path


def test_a_vocabulary_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe[PAD]")
    with pytest.raises(InputError, match=r"vocab\.txt: not a tokenizer's vocabulary$"):
        read_vocabulary(tmp_path / "vocab.txt")


def test_another_tokenizer_is_an_error_that_names_both(pretrain_yaml: Path, corpus: Path, tmp_path: Path) -> None:
    folder = their_model(tmp_path / "model")
    theirs = tokenizer(folder / "tokenizer.json", ["<s>", "a", "b"])
    config = configured(pretrain_yaml, folder).model
    with pytest.raises(InputError, match=r"tokenizer\.json: SHA-256 \w{64}; .*corpus was made with \w{64}"):
        check_start(config, Corpus(corpus))
    ours = tokenizer(corpus / "tokenizer" / "tokenizer.json", ["<s>", "a", "c"])
    manifest = read_json(corpus / MANIFEST)
    manifest["files"] |= describe_files(corpus, ["tokenizer/tokenizer.json"])
    manifest["tokenizer"]["fingerprint"] = file_sha256(ours)
    write_json(corpus / MANIFEST, seal(manifest))
    complaint = f'{theirs}: id 2 is "b", in {ours} "c": another tokenizer'
    with pytest.raises(InputError, match=re.escape(complaint)):
        check_start(config, Corpus(corpus))
    theirs.write_bytes(ours.read_bytes())
    check_start(config, Corpus(corpus))
    theirs.write_text(json.dumps({"model": {"type": "WordLevel", "vocab": {"<s>": 0, "a": 1, "c": 2}}}))
    check_start(config, Corpus(corpus))  # another text of the same vocabulary
    theirs.write_text('{"model": {}}')
    with pytest.raises(InputError, match=r"tokenizer\.json: not a tokenizer's vocabulary"):
        check_start(config, Corpus(corpus))
    theirs.unlink()
    for name, same, other in (
        ("vocab.txt", "<s>\na\nc\n", "<s>\nc\na\n"),
        ("vocab.json", '{"a": 1, "c": 2}', '{"a": 1, "b": 2}'),  # what was added stands elsewhere
    ):
        (folder / name).write_text(same)
        check_start(config, Corpus(corpus))
        (folder / name).write_text(other)
        with pytest.raises(InputError, match=rf"{name}: id \d is "):
            check_start(config, Corpus(corpus))
