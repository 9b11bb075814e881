"""The tokenizer of a corpus: trained on a sample of its sentences, and written in the forms that are exported."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from pipeline.files import write_bytes, write_json
from preprocess import byte_bpe, spm
from preprocess.config import TokenizerConfig
from preprocess.huggingface import write_tokenizer
from preprocess.vocabulary import SPECIAL_IDS, SPECIAL_TOKENS, Vocabulary


class Trained(NamedTuple):
    tokenizer: Tokenizer
    files: dict[str, bytes]  # other forms of it, by name


def train(sentences: Iterable[str], config: TokenizerConfig, unicode_form: str) -> Trained:
    """A tokenizer of the configured type, a function of the sentences in their order.

    Raises:
        InputError: too little text for the vocabulary, or a vocabulary too small for the text's characters.
    """
    if config.type == "byte-bpe":
        return Trained(byte_bpe.train(sentences, config, unicode_form), {})
    model = spm.train(sentences, config)
    return Trained(spm.fast_tokenizer(spm.load(model), config.type, unicode_form), {"spm.model": model})


def write(folder: Path, trained: Trained, longest: int) -> None:
    """Write what is exported into `folder`/tokenizer, and `folder`/vocabulary.json, which the next stages read.

    Args:
        longest: the largest number of tokens of a sample.
    """
    write_tokenizer(folder / "tokenizer", trained.tokenizer, SPECIAL_TOKENS, longest)
    for name, data in trained.files.items():
        write_bytes(folder / "tokenizer" / name, data)
    write_json(folder / "vocabulary.json", Vocabulary(trained.tokenizer.get_vocab_size(), SPECIAL_IDS)._asdict())
