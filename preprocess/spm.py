"""SentencePiece, unigram or BPE: train a model, and make the same tokenizer in Hugging Face's format.

It is built from the model's pieces and scores, since the stock conversions lose the byte fallback.
"""

import io
import re
from collections.abc import Iterable

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pipeline.errors import InputError
from preprocess.clean.unicode import META
from preprocess.config import SentencePieceConfig
from preprocess.huggingface import normalizer, with_special_tokens
from preprocess.vocabulary import SPECIAL_IDS, SPECIAL_TOKENS

BYTES = range(5, 5 + 256)
MAX_SENTENCE_BYTES = 4_192  # SentencePiece leaves longer ones out of the training
# The texts `<0x41>` and `<s>` do not match these pieces: their characters, always pieces too, have a higher score
_NEVER = -1_000.0
_HEXADECIMAL = "<0x123456789ABCDEF>"


def train(sentences: Iterable[str], config: SentencePieceConfig) -> bytes:
    """A SentencePiece model, a function of the sentences in their order and of `config`.

    Raises:
        InputError: too little text for the vocabulary, or a vocabulary too small for the text's characters.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=config.type.removeprefix("sentencepiece-"),
            vocab_size=config.vocab_size,
            character_coverage=config.character_coverage,
            required_chars="".join(sorted({*"".join(SPECIAL_TOKENS.values()), *_HEXADECIMAL})),
            byte_fallback=True,
            hard_vocab_limit=True,
            num_threads=config.threads,
            max_sentence_length=MAX_SENTENCE_BYTES,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            bos_id=SPECIAL_IDS["bos"],
            pad_id=SPECIAL_IDS["pad"],
            eos_id=SPECIAL_IDS["eos"],
            unk_id=SPECIAL_IDS["unk"],
            control_symbols=[SPECIAL_TOKENS["mask"]],
            train_extremely_large_corpus=config.sample_characters > 500_000_000,  # 64-bit suffix arrays
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InputError(_why(str(error), config.vocab_size)) from None
    return model.getvalue()


def _why(error: str, vocab_size: int) -> str:
    """SentencePiece's complaint in terms of the configuration."""
    largest = re.search(r"Vocabulary size too high \(\d+\)\. Please set it to a value <= (\d+)", error)
    if largest:
        return f"tokenizer.vocab_size: found {vocab_size}; so little text can have {largest[1]} at most"
    smallest = re.search(r"Vocabulary size is smaller than required_chars\. \d+ vs (\d+)", error)
    if smallest:
        advice = "or a smaller tokenizer.character_coverage"
        return f"tokenizer.vocab_size: found {vocab_size}; the text's characters need {smallest[1]} at least, {advice}"
    return f"tokenizer: SentencePiece cannot train: {error.splitlines()[-1] if error else 'no reason given'}"


def load(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """The processor of a trained model, its special ids checked."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    for name, token in SPECIAL_TOKENS.items():
        assert processor.piece_to_id(token) == SPECIAL_IDS[name], (name, processor.piece_to_id(token))
    assert all(processor.is_byte(id) for id in BYTES)
    return processor


def _unigram(pieces: list[str], processor: sentencepiece.SentencePieceProcessor) -> models.Model:
    plain = BYTES.stop
    scores = [_NEVER] * plain + [processor.get_score(id) for id in range(plain, len(pieces))]
    vocabulary = list(zip(pieces, scores, strict=True))
    return models.Unigram(vocabulary, unk_id=SPECIAL_IDS["unk"], byte_fallback=True)


def _bpe(pieces: list[str]) -> models.Model:
    """SentencePiece merges any two pieces that make one, the piece with the smallest id first: so each of its divisions
    is a merge."""
    known = set(pieces[BYTES.stop :])
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces[BYTES.stop :]
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]
    ids = {piece: id for id, piece in enumerate(pieces)}
    return models.BPE(ids, merges, unk_token=SPECIAL_TOKENS["unk"], byte_fallback=True)


def fast_tokenizer(processor: sentencepiece.SentencePieceProcessor, kind: str, unicode_form: str) -> Tokenizer:
    """The Hugging Face tokenizer with the same pieces: raw text → `<s> … </s>`."""
    pieces = [processor.id_to_piece(id) for id in range(processor.get_piece_size())]
    return _around(_bpe(pieces) if kind == "sentencepiece-bpe" else _unigram(pieces, processor), unicode_form)


def without_pieces(unicode_form: str) -> list[Tokenizer]:
    """What all tokenizers of both kinds have in common."""
    special = [(token, 0.0) for token in SPECIAL_TOKENS.values()]
    unigram = models.Unigram(special, unk_id=SPECIAL_IDS["unk"], byte_fallback=True)
    return [_around(model, unicode_form) for model in (unigram, _bpe([]))]


def _around(model: models.Model, unicode_form: str) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer(unicode_form)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=META, prepend_scheme="first", split=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(META, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return with_special_tokens(tokenizer, trim_offsets=False)
