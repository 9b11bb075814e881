"""Byte-level BPE as RoBERTa's own: pieces are of bytes, so every text has its ids and none needs a fallback.

Words are cut by GPT-2's pattern and carry the space before them. What differs from `roberta-base` is what raw text is
normalised to (as for the other tokenizers here, `preprocess.huggingface`), and that the mask follows the other special
tokens.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pipeline.errors import InputError
from preprocess.config import ByteBpeConfig
from preprocess.huggingface import normalizer, special_tokens, with_special_tokens

_MIN_FREQUENCY = 2  # of a pair that is merged, as in Hugging Face's ByteLevelBPETokenizer


def train(sentences: Iterable[str], config: ByteBpeConfig, unicode_form: str) -> Tokenizer:
    """A byte-level BPE tokenizer, a function of the sentences alone: neither threads nor hash seeds change it.

    Raises:
        InputError: too little text for the vocabulary.
    """
    tokenizer = _empty()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=special_tokens(),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((" " + sentence for sentence in sentences), trainer)  # a space precedes most
    if tokenizer.get_vocab_size() < config.vocab_size:
        most = tokenizer.get_vocab_size()
        raise InputError(f"tokenizer.vocab_size: found {config.vocab_size}; so little text can have {most} at most")
    return _finished(tokenizer, unicode_form)


def without_pieces(unicode_form: str) -> Tokenizer:
    """What all tokenizers of this kind have in common."""
    return _finished(_empty(), unicode_form)


def _empty() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _finished(tokenizer: Tokenizer, unicode_form: str) -> Tokenizer:
    # a document's first word has no space before it, in the corpus nor in raw text that begins with one
    no_space_first = normalizers.Replace(Regex(r"\A "), "")
    tokenizer.normalizer = normalizers.Sequence([normalizer(unicode_form), no_space_first])
    return with_special_tokens(tokenizer, trim_offsets=True)
