"""The tokenizer of a corpus: given, or trained on a sample of its sentences; written in the forms that are exported."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from pipeline.files import write_bytes, write_json
from preprocess import byte_bpe, loaded, spm
from preprocess.config import LoadedConfig, TrainedConfig
from preprocess.huggingface import form, write_tokenizer
from preprocess.vocabulary import SPECIAL_TOKENS, Vocabulary


class Made(NamedTuple):
    tokenizer: Tokenizer
    tokens: dict[str, str]  # the special ones
    files: dict[str, bytes]  # other forms of it, by name


def load(config: LoadedConfig) -> Made:
    """A given tokenizer.

    Raises:
        InputError: it is none, or lacks a special token.
    """
    return Made(*loaded.load(config.path), {})


def is_ours(tokenizer: Tokenizer, unicode_form: str) -> bool:
    """Is a given tokenizer one that was trained here, for text of this Unicode form? It may be of another corpus."""
    kinds = [*spm.without_pieces(unicode_form), byte_bpe.without_pieces(unicode_form)]
    return form(tokenizer) in [form(kind) for kind in kinds]


def train(sentences: Iterable[str], config: TrainedConfig, unicode_form: str) -> Made:
    """A tokenizer of the configured type, a function of the sentences in their order.

    Raises:
        InputError: too little text for the vocabulary, or a vocabulary too small for the text's characters.
    """
    if config.type == "byte-bpe":
        return Made(byte_bpe.train(sentences, config, unicode_form), SPECIAL_TOKENS, {})
    model = spm.train(sentences, config)
    fast = spm.fast_tokenizer(spm.load(model), config.type, unicode_form)
    return Made(fast, SPECIAL_TOKENS, {"spm.model": model})


def write(folder: Path, made: Made, longest: int) -> None:
    """Write what is exported into `folder`/tokenizer, and `folder`/vocabulary.json, which the next stages read.

    Args:
        longest: the largest number of tokens of a sample.
    """
    write_tokenizer(folder / "tokenizer", made.tokenizer, made.tokens, longest)
    for name, data in made.files.items():
        write_bytes(folder / "tokenizer" / name, data)
    ids = made.tokenizer.get_vocab(with_added_tokens=True)
    special_ids = {name: ids[token] for name, token in made.tokens.items()}
    size = 1 + max(ids.values())  # not their number: there may be gaps
    write_json(folder / "vocabulary.json", Vocabulary(size, special_ids)._asdict())
