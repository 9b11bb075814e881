"""A given tokenizer: its own ids, its special tokens by name, and nothing that it does around a text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from pipeline.corpus.shards import Corpus
from pipeline.errors import InputError
from preprocess import byte_bpe, encode, loaded, tokenizer, words
from preprocess.clean.unicode import normalise
from preprocess.config import ByteBpeConfig, LoadedConfig
from preprocess.encode import Encoder
from preprocess.run import run
from preprocess.sentences import sentences
from preprocess.stages import key_of
from tests.preprocess.small import prose, small_config, write_raw
from tests.preprocess.test_encode import KINDS, TEXTS, begins, fast_tokenizer, pieces

BERT = {"bos": "[CLS]", "pad": "[PAD]", "eos": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}


def bert() -> Tokenizer:
    """A small WordPiece tokenizer with BERT's names and order of special tokens, that cuts and pads."""
    letters = sorted({letter for text in TEXTS for letter in text.lower() if not letter.isspace()})
    names = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{letter}" for letter in letters),
        "ba",
        "##da",
    ]
    made = Tokenizer(models.WordPiece({name: 2 * id for id, name in enumerate(names)}, unk_token="[UNK]"))  # with gaps
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.BertProcessing(("[SEP]", 6), ("[CLS]", 4))
    made.add_special_tokens(names[:5])
    made.enable_truncation(16)
    made.enable_padding(length=24)
    return made


def write_vocabulary(folder: Path) -> None:
    """`vocab.json` and `merges.txt` with RoBERTa's order: the mask is the last."""
    lines = [sentence for text in TEXTS for sentence in sentences(text)]
    made = byte_bpe.train(lines, ByteBpeConfig(vocab_size=400), "NFC")
    model = json.loads(made.to_str())["model"]
    pieces = sorted((piece for piece in model["vocab"] if piece != "<mask>"), key=model["vocab"].__getitem__)
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({piece: id for id, piece in enumerate([*pieces, "<mask>"])}))
    merges = "".join(f"{first} {second}\n" for first, second in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given") / "roberta"
    write_vocabulary(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(roberta: Path) -> Encoder:
    return Encoder(loaded.load(roberta)[0], given=True)


@pytest.fixture(scope="module")
def reference(roberta: Path) -> Any:
    from transformers import RobertaTokenizer  # here: it takes seconds

    return RobertaTokenizer.from_pretrained(roberta, local_files_only=True)


def test_vocabulary_and_merges_give_the_ids_of_hugging_face(encoder: Encoder, reference: Any) -> None:
    assert reference.is_fast
    for text in map(normalise, [*TEXTS, f"{TEXTS[0]}\n\n\n {TEXTS[1]}"]):
        assert encoder.encode(text).ids.tolist() == reference(text, add_special_tokens=False).input_ids


@given(pieces())
def test_words_and_line_ends_are_those_of_the_whole_document(encoder: Encoder, reference: Any, raw: str) -> None:
    text = normalise(raw)
    if text and not any(token in text for token in encoder.special_tokens):
        assert encoder.encode(text).ids.tolist() == reference(text, add_special_tokens=False).input_ids


@pytest.fixture(scope="module", params=["RoBERTa's", "with a space first", "WordPiece"])
def plain(request: pytest.FixtureRequest, roberta: Path) -> Tokenizer:
    """Of the three the first alone is encoded word by word."""
    made = bert() if request.param == "WordPiece" else loaded.load(roberta)[0]
    if request.param == "with a space first":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.no_truncation()
    made.no_padding()
    return made


@given(st.lists(pieces().map(normalise).filter(bool), max_size=8))
def test_documents_together_have_the_ids_of_each(plain: Tokenizer, texts: list[str]) -> None:
    encoder = Encoder(Tokenizer.from_str(plain.to_str()), given=True)
    texts = [text for text in texts if not any(token in text for token in encoder.special_tokens)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "_AT_ONCE", 100)
        patch.setattr(words, "_REMEMBERED", 20)
        found = list(encoder.encode_all(texts))
    assert [one.ids.tolist() for one in found] == [plain.encode(text, add_special_tokens=False).ids for text in texts]
    if encoder._by_word:
        assert [one.sentences.tolist() for one in found] == [begins(plain, text, lines=True) for text in texts]


def test_special_tokens_by_their_names(roberta: Path, tmp_path: Path) -> None:
    for name in ("roberta", "bert"):
        (tmp_path / name).mkdir()
    tokenizer.write(tmp_path / "roberta", tokenizer.load(LoadedConfig(path=roberta)), 64)
    vocabulary = json.loads((tmp_path / "roberta" / "vocabulary.json").read_bytes())
    assert vocabulary == {"size": 400, "special_ids": {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "mask": 399}}
    bert().save(str(tmp_path / "tokenizer.json"))
    made = tokenizer.load(LoadedConfig(path=tmp_path))
    assert made.tokens == BERT
    tokenizer.write(tmp_path / "bert", made, 64)
    vocabulary = json.loads((tmp_path / "bert" / "vocabulary.json").read_bytes())
    assert vocabulary["special_ids"] == {"bos": 4, "pad": 0, "eos": 6, "unk": 2, "mask": 8}
    assert vocabulary["size"] == 1 + max(made.tokenizer.get_vocab().values())


def test_what_it_does_around_a_text_is_left_out(tmp_path: Path) -> None:
    bert().save(str(tmp_path / "tokenizer.json"))
    made = tokenizer.load(LoadedConfig(path=tmp_path / "tokenizer.json"))
    words = Encoder(Tokenizer.from_str(made.tokenizer.to_str()), given=True).encode(TEXTS[0])
    plain = bert()
    plain.no_truncation()
    plain.no_padding()
    assert words.ids.tolist() == plain.encode(TEXTS[0], add_special_tokens=False).ids
    assert len(words.ids) > 24
    assert made.tokenizer.encode("ba [MASK]", "ba").ids == plain.encode("ba [MASK]", "ba").ids
    parts = np.split(words.ids, words.sentences[1:].astype(int))
    assert [plain.decode(part.tolist()) for part in parts] == [
        plain.decode(plain.encode(sentence, add_special_tokens=False).ids) for sentence in sentences(TEXTS[0])
    ]


def test_a_tokenizer_that_adds_no_special_tokens_gets_them(roberta: Path) -> None:
    made, _ = loaded.load(roberta)
    ids = made.encode("bala", add_special_tokens=False).ids
    assert made.encode("bala").ids == [0, *ids, 2]
    assert made.encode("bala", "bala").ids == [0, *ids, 2, 2, *ids, 2]


def test_added_tokens_across_spaces_are_found(roberta: Path, tmp_path: Path) -> None:
    made, _ = loaded.load(roberta)
    made.add_tokens([AddedToken("bala dede", normalized=False)])
    made.save(str(tmp_path / "tokenizer.json"))
    again, _ = loaded.load(tmp_path)
    assert 400 in Encoder(again, given=True).encode("Kulu bala dede.").ids


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_was_trained_here_is_known_whatever_its_pieces(kind: str, tmp_path: Path) -> None:
    trained = fast_tokenizer(kind)
    trained.save(str(tmp_path / "tokenizer.json"))
    again, _ = loaded.load(tmp_path)
    assert tokenizer.is_ours(again, "NFC")
    assert not tokenizer.is_ours(again, "NFKC")
    again.add_tokens(["bala dede"])
    assert not tokenizer.is_ours(again, "NFC")


def test_others_are_not_taken_for_one(roberta: Path) -> None:
    assert not tokenizer.is_ours(loaded.load(roberta)[0], "NFC")
    assert not tokenizer.is_ours(bert(), "NFC")


def test_the_tokenizer_of_another_corpus_encodes_word_by_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(tmp_path / "raw")
    first = Corpus(run(small_config(tmp_path / "raw", tmp_path / "first")))
    settings = {"type": "loaded", "path": str(tmp_path / "first" / "tokenizer")}
    with monkeypatch.context() as patch:
        patch.delattr(Encoder, "_encode_whole")
        second = Corpus(run(small_config(tmp_path / "raw", tmp_path / "second", tokenizer=settings)))
    for name, entry in first.manifest["files"].items():
        if name.endswith((".tokens", ".index")):
            assert second.manifest["files"][name] == entry, name


def test_tokenizers_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.path: .*: found nothing; expected tokenizer\.json, or vocab"):
        loaded.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="found a folder without them"):
        loaded.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json: not a tokenizer: .*") as caught:
        loaded.load(tmp_path)
    assert "\n" not in str(caught.value)
    Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<pad>": 2, "[UNK]": 3, "a": 4}, "[UNK]")).save(
        str(tmp_path / "tokenizer.json")
    )
    message = r"no mask token; expected <mask> or \[MASK\]; found bos <s>, pad <pad>, eos </s>, unk \[UNK\]$"
    with pytest.raises(InputError, match=message):
        loaded.load(tmp_path)


def test_a_corpus_with_a_given_tokenizer(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        bert().save(str(tmp_path / folder / "tokenizer.json"))
    settings = [{"type": "loaded", "path": str(tmp_path / folder)} for folder in ("one", "two")]
    configs = [small_config(tmp_path / "raw", tmp_path / "corpus", tokenizer=given) for given in settings]
    assert key_of("tokenizer", configs[0], []) == key_of("tokenizer", configs[1], [])
    corpus = Corpus(run(configs[0]))
    corpus.verify()
    assert str(tmp_path) not in (corpus.folder / "manifest.json").read_text()
    assert corpus.special_ids == {"bos": 4, "pad": 0, "eos": 6, "unk": 2, "mask": 8}
    rows = corpus.split("train", 32).read(np.arange(3))
    assert (rows[:, 0] == 4).all()
    fast = Tokenizer.from_file(str(corpus.folder / "tokenizer" / "tokenizer.json"))
    text = prose(303)
    encoded = fast.encode(text)
    assert (encoded.ids[0], encoded.ids[-1]) == (4, 6)
    assert len(encoded.ids) > 24
    run(configs[1])  # is up to date: the same content elsewhere
    again = bert()
    again.add_tokens(["bala"])
    again.save(str(tmp_path / "two" / "tokenizer.json"))
    assert key_of("tokenizer", configs[0], []) != key_of("tokenizer", configs[1], [])
    assert key_of("documents", configs[0], []) == key_of("documents", configs[1], [])
    with pytest.raises(InputError, match=r"differs in config\.tokenizer\.sha256; give another"):
        run(configs[1])
