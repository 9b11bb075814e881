"""SentencePiece and `tokenizer.json` give the same ids, for clean text and for raw text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipeline.errors import InputError
from preprocess import tokenizer
from preprocess.clean.unicode import normalise
from preprocess.config import TokenizerConfig
from preprocess.encode import encode
from preprocess.sentences import sentences
from tests.preprocess.small import prose

TEXTS = [prose(number, 200) for number in range(6)] + [
    "日本の文。二番目の文！「三番目。」四。" * 20,
    "Is 0 < 41 > 14 x?\n" * 100,
]
CONFIG = TokenizerConfig(vocab_size=400, sample_characters=100_000, character_coverage=0.998)
SENTENCES = [sentence for text in TEXTS for sentence in sentences(text)]
MODEL = tokenizer.train(SENTENCES, CONFIG)
PROCESSOR = tokenizer.load(MODEL)
FAST = tokenizer.fast_tokenizer(PROCESSOR, "NFC")


def fast_ids(text: str) -> list[int]:
    return list(FAST.encode(text, add_special_tokens=False).ids)


def test_training_is_deterministic() -> None:
    assert tokenizer.train(SENTENCES, CONFIG) == MODEL


def test_special_ids() -> None:
    assert {
        name: PROCESSOR.piece_to_id(token) for name, token in tokenizer.SPECIAL_TOKENS.items()
    } == tokenizer.SPECIAL_IDS
    assert {name: FAST.token_to_id(token) for name, token in tokenizer.SPECIAL_TOKENS.items()} == tokenizer.SPECIAL_IDS
    assert FAST.get_vocab_size() == PROCESSOR.get_piece_size() == 400


@pytest.mark.parametrize("text", TEXTS)
def test_equal_on_documents(text: str) -> None:
    assert encode(text, PROCESSOR).ids.tolist() == fast_ids(text)


_character = st.one_of(st.sampled_from(" .!?\n\t。「」aekoBA\u0301\u2581\xa0\x1f\u200b"), st.characters(codec="utf-8"))


@given(st.text(_character, max_size=60))
def test_raw_text_gives_the_corpus_ids(raw: str) -> None:
    text = normalise(raw)
    if text and not any(
        token in raw for token in tokenizer.SPECIAL_TOKENS.values()
    ):  # those are themselves to one only
        assert fast_ids(raw) == encode(text, PROCESSOR).ids.tolist()


def test_bytes_are_the_fallback_and_never_the_text() -> None:
    assert fast_ids("ł") == PROCESSOR.encode("ł")
    assert set(fast_ids("ł")[1:]) <= set(tokenizer.BYTES)
    assert not set(fast_ids("<0x41>")[1:]) & {PROCESSOR.piece_to_id("<0x41>")}
    assert FAST.decode(fast_ids("bala ł 漢 x")) == "bala ł 漢 x"


def test_sentence_begins_also_without_spaces() -> None:
    text = "Bala dede. 日本の文。二番目の文！\n「三番目。」 Kulu."
    encoded = encode(text, PROCESSOR)
    begins = encoded.sentences.tolist()
    parts = np.split(encoded.ids, begins[1:])
    decoded = [PROCESSOR.decode(part.tolist()).strip() for part in parts]
    assert begins[0] == 0
    assert decoded == sentences(text)


def test_too_large_a_vocabulary_names_the_largest() -> None:
    with pytest.raises(InputError, match=r"tokenizer.vocab_size: found 30000; so little text can have \d+ at most"):
        tokenizer.train(SENTENCES, CONFIG.model_copy(update={"vocab_size": 30_000}))


def test_too_small_a_vocabulary_names_the_smallest() -> None:
    many = ["".join(chr(0x4E00 + n + k) for k in range(20)) for n in range(0, 400, 20)]
    with pytest.raises(InputError, match=r"found 300; the text's characters need \d+ at least"):
        tokenizer.train(many * 5, CONFIG.model_copy(update={"vocab_size": 300, "character_coverage": 1.0}))


def test_auto_tokenizer_loads_it_offline(tmp_path: Path) -> None:
    from transformers import AutoTokenizer  # here: it takes seconds

    tokenizer.write_tokenizer(tmp_path, MODEL, "NFC", 64)
    assert {path.name for path in tmp_path.iterdir()} == {"spm.model", "tokenizer.json", "tokenizer_config.json"}
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded.is_fast
    assert loaded.model_max_length == 64
    assert len(loaded) == 400
    ids = {"bos": loaded.bos_token_id, "pad": loaded.pad_token_id, "eos": loaded.eos_token_id}
    assert ids | {"unk": loaded.unk_token_id, "mask": loaded.mask_token_id} == tokenizer.SPECIAL_IDS
    assert (loaded.cls_token_id, loaded.sep_token_id) == (0, 2)
    assert loaded(TEXTS[0], add_special_tokens=False).input_ids == encode(TEXTS[0], PROCESSOR).ids.tolist()
    word = PROCESSOR.encode("bala")
    assert loaded("bala <mask> bala <mask>.").input_ids == [0, *word, 4, *word, 4, PROCESSOR.piece_to_id("."), 2]
    assert loaded("bala", "bala").input_ids == [0, *word, 2, 2, *word, 2]


def test_tokenizer_json_is_plain_and_complete(tmp_path: Path) -> None:
    tokenizer.write_tokenizer(tmp_path, MODEL, "NFC", 64)
    values = json.loads((tmp_path / "tokenizer.json").read_bytes())
    assert values["model"]["byte_fallback"] is True
    assert len(values["model"]["vocab"]) == 400
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("bala").ids == FAST.encode("bala").ids
    assert sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model")).get_piece_size() == 400
