"""Byte-level BPE: the same bytes however it is trained, and loadable as RoBERTa's own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

from pipeline.errors import InputError
from preprocess import byte_bpe, tokenizer
from preprocess.config import ByteBpeConfig
from preprocess.vocabulary import SPECIAL_IDS, SPECIAL_TOKENS
from tests.preprocess.small import prose

# many words, and pairs, of the same frequency: ties are broken by something
TIED = [f"{a}{b}{c}{d} ." for a in "xyz" for b in "vw" for c in "ij" for d in "éł日"]
SENTENCES = [*prose(0, 200).split("\n\n"), *TIED]
CONFIG = ByteBpeConfig(vocab_size=500)


def test_threads_and_hash_seeds_do_not_change_it() -> None:
    code = (
        "from preprocess import byte_bpe; from tests.preprocess.test_byte_bpe import CONFIG, SENTENCES; "
        "print(byte_bpe.train(SENTENCES, CONFIG, 'NFC').to_str())"
    )
    expected = byte_bpe.train(SENTENCES, CONFIG, "NFC").to_str()
    for threads, seed in (("1", "1"), ("2", "2"), ("7", "3")):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": seed}
        environment["TOKENIZERS_PARALLELISM"] = "true" if threads != "1" else "false"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
        assert done.stdout == expected + "\n"


def test_ids() -> None:
    made = byte_bpe.train(SENTENCES, CONFIG, "NFC")
    assert {name: made.token_to_id(token) for name, token in SPECIAL_TOKENS.items()} == SPECIAL_IDS
    assert {made.id_to_token(id) for id in range(5, 261)} == set(pre_tokenizers.ByteLevel.alphabet())
    assert made.get_vocab_size() == 500
    assert made.encode("  ").ids == [0, 2]
    text = "Bala 3.5 don't <0x41>\u3000é 日 🙂"
    assert made.decode(made.encode(text).ids) == text.replace("\u3000", " ")


def test_too_large_a_vocabulary_names_the_largest() -> None:
    with pytest.raises(InputError, match=r"tokenizer\.vocab_size: found 30000; so little text can have \d+ at most"):
        byte_bpe.train(SENTENCES, CONFIG.model_copy(update={"vocab_size": 30_000}), "NFC")


def test_auto_tokenizer_gives_the_same_ids(tmp_path: Path) -> None:
    from transformers import AutoTokenizer  # here: it takes seconds

    trained = tokenizer.train(SENTENCES, CONFIG, "NFC")
    tokenizer.write(tmp_path, trained, 64)
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path / "tokenizer", local_files_only=True)
    for text in SENTENCES:
        assert loaded(text).input_ids == trained.tokenizer.encode(text).ids
    word, stop = loaded("bala", add_special_tokens=False).input_ids, loaded.convert_tokens_to_ids(".")
    assert loaded("bala <mask>.").input_ids == [0, *word, 4, stop, 2]
    assert loaded.decode(loaded("Bala dede.").input_ids, skip_special_tokens=True) == "Bala dede."
