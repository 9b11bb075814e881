"""SentencePiece and `tokenizer.json` give the same ids, for clean text and for raw text."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from pipeline.errors import InputError
from preprocess import spm, tokenizer
from preprocess.clean.unicode import normalise
from preprocess.config import SentencePieceConfig
from preprocess.encode import Encoder
from preprocess.sentences import sentences
from preprocess.vocabulary import SPECIAL_IDS, SPECIAL_TOKENS
from tests.preprocess.small import prose

TEXTS = [prose(number, 200) for number in range(6)] + [
    "日本の文。二番目の文！「三番目。」四。" * 20,
    "\n".join(["Is 0 < 41 > 14 x?"] * 100),
]
SENTENCES = [sentence for text in TEXTS for sentence in sentences(text)]


class Made:
    """A trained model in both forms."""

    def __init__(self, config: type[SentencePieceConfig]) -> None:
        self.config = config(vocab_size=400, sample_characters=100_000, character_coverage=0.998, threads=1)
        self.trained = tokenizer.train(SENTENCES, self.config, "NFC")
        self.fast = self.trained.tokenizer
        self.processor = spm.load(self.trained.files["spm.model"])
        self.encoder = Encoder(Tokenizer.from_str(self.fast.to_str()))

    def ids(self, text: str) -> list[int]:
        return list(self.encoder.encode(text).ids.tolist())

    def fast_ids(self, text: str) -> list[int]:
        return list(self.fast.encode(text, add_special_tokens=False).ids)

    def write(self, folder: Path) -> None:
        tokenizer.write(folder, self.trained, 64)


@pytest.fixture(scope="module", params=get_args(SentencePieceConfig))
def made(request: pytest.FixtureRequest) -> Made:
    return Made(request.param)


def test_training_is_deterministic(made: Made) -> None:
    again = tokenizer.train(SENTENCES, made.config, "NFC")
    assert again.files == made.trained.files
    assert again.tokenizer.to_str() == made.fast.to_str()


def test_special_ids(made: Made) -> None:
    names = SPECIAL_TOKENS.items()
    assert {name: made.processor.piece_to_id(token) for name, token in names} == SPECIAL_IDS
    assert {name: made.fast.token_to_id(token) for name, token in names} == SPECIAL_IDS
    assert made.fast.get_vocab_size() == made.processor.get_piece_size() == 400


@pytest.mark.parametrize("text", TEXTS)
def test_equal_on_documents(made: Made, text: str) -> None:
    assert made.ids(text) == made.fast_ids(text) == [id for word in text.split() for id in made.processor.encode(word)]


def test_the_kinds_are_different(made: Made) -> None:
    assert isinstance(made.fast.model, models.BPE if made.config.type == "sentencepiece-bpe" else models.Unigram)
    other = Made(next(kind for kind in get_args(SentencePieceConfig) if not isinstance(made.config, kind)))
    assert other.fast_ids(TEXTS[0]) != made.fast_ids(TEXTS[0])


_character = st.one_of(st.sampled_from(" .!?\n\t。「」aekoBA\u0301\u2581\xa0\x1f\u200b"), st.characters(codec="utf-8"))


@given(st.text(_character, max_size=60))
def test_raw_text_gives_the_corpus_ids(made: Made, raw: str) -> None:
    text = normalise(raw)
    if text and not any(token in raw for token in SPECIAL_TOKENS.values()):  # those are themselves to one only
        assert made.fast_ids(raw) == made.ids(text)


def test_bytes_are_the_fallback_and_never_the_text(made: Made) -> None:
    assert made.fast_ids("ł") == made.processor.encode("ł")
    assert set(made.fast_ids("ł")[1:]) <= set(spm.BYTES)
    assert not set(made.fast_ids("<0x41>")[1:]) & {made.processor.piece_to_id("<0x41>")}
    assert made.fast.decode(made.fast_ids("bala ł 漢 x")) == "bala ł 漢 x"


def test_sentence_begins_also_without_spaces(made: Made) -> None:
    text = "Bala dede. 日本の文。二番目の文！\n「三番目。」 Kulu."
    encoded = made.encoder.encode(text)
    begins = encoded.sentences.tolist()
    parts = np.split(encoded.ids, begins[1:])
    decoded = [made.processor.decode(part.tolist()).strip() for part in parts]
    assert begins[0] == 0
    assert decoded == sentences(text)


def test_too_large_a_vocabulary_names_the_largest(made: Made) -> None:
    with pytest.raises(InputError, match=r"tokenizer.vocab_size: found 30000; so little text can have \d+ at most"):
        tokenizer.train(SENTENCES, made.config.model_copy(update={"vocab_size": 30_000}), "NFC")


def test_too_small_a_vocabulary_names_the_smallest(made: Made) -> None:
    many = ["".join(chr(0x4E00 + n + k) for k in range(20)) for n in range(0, 400, 20)]
    with pytest.raises(InputError, match=r"found 300; the text's characters need \d+ at least"):
        tokenizer.train(many * 5, made.config.model_copy(update={"vocab_size": 300, "character_coverage": 1.0}), "NFC")


def test_auto_tokenizer_loads_it_offline(made: Made, tmp_path: Path) -> None:
    from transformers import AutoTokenizer  # here: it takes seconds

    made.write(tmp_path)
    assert {path.name for path in (tmp_path / "tokenizer").iterdir()} == {
        "spm.model",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path / "tokenizer", local_files_only=True)
    assert loaded.is_fast
    assert loaded.model_max_length == 64
    assert len(loaded) == 400
    ids = {"bos": loaded.bos_token_id, "pad": loaded.pad_token_id, "eos": loaded.eos_token_id}
    assert ids | {"unk": loaded.unk_token_id, "mask": loaded.mask_token_id} == SPECIAL_IDS
    assert (loaded.cls_token_id, loaded.sep_token_id) == (0, 2)
    assert loaded(TEXTS[0], add_special_tokens=False).input_ids == made.ids(TEXTS[0])
    word = made.processor.encode("bala")
    assert loaded("bala <mask> bala <mask>.").input_ids == [0, *word, 4, *word, 4, made.processor.piece_to_id("."), 2]
    assert loaded("bala", "bala").input_ids == [0, *word, 2, 2, *word, 2]


def test_tokenizer_json_is_plain_and_complete(made: Made, tmp_path: Path) -> None:
    made.write(tmp_path)
    values = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_bytes())
    assert values["model"]["byte_fallback"] is True
    assert len(values["model"]["vocab"]) == 400
    assert (
        Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json")).encode("bala").ids
        == made.fast.encode("bala").ids
    )
    assert (
        sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer" / "spm.model")).get_piece_size()
        == 400
    )
