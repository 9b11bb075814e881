"""Train a SentencePiece model, unigram or BPE, and write the same tokenizer in Hugging Face's format.

Both give the same ids: SentencePiece normalises nothing (`preprocess.clean.unicode` did), and `tokenizer.json` holds
that normalisation as its own first step. It is built from the model's pieces and scores, since the stock conversions
lose the byte fallback.
"""

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from pipeline.errors import InputError
from pipeline.files import write_bytes, write_json
from preprocess.clean.unicode import INVISIBLE, META
from preprocess.config import SentencePiece, TokenizerConfig

SPECIAL_TOKENS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
SPECIAL_IDS = {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "mask": 4}  # RoBERTa's, but for the mask, which follows them
BYTES = range(5, 5 + 256)
MAX_SENTENCE_BYTES = 4_192  # SentencePiece leaves longer ones out of the training
_NEVER = -1_000.0  # score of a piece that the text `<0x41>` must not match: bytes come from the fallback alone


def train(sentences: Iterable[str], config: TokenizerConfig) -> bytes:
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


def fast_tokenizer(
    processor: sentencepiece.SentencePieceProcessor, kind: SentencePiece, unicode_form: str
) -> Tokenizer:
    """The Hugging Face tokenizer with the same pieces: raw text → `<s> … </s>`."""
    pieces = [processor.id_to_piece(id) for id in range(processor.get_piece_size())]
    tokenizer = Tokenizer(_bpe(pieces) if kind == "sentencepiece-bpe" else _unigram(pieces, processor))
    tokenizer.normalizer = normalizers.Sequence(
        [
            # a text's first word gets its space only if the text's first character was not removed: so put one there
            normalizers.Replace(Regex(rf"\A[{INVISIBLE}]+"), " "),
            normalizers.Replace(Regex(f"[{INVISIBLE}]"), ""),
            normalizers.NFC() if unicode_form == "NFC" else normalizers.NFKC(),
            normalizers.Replace(Regex(rf"[\s\x1c-\x1f{META}]+"), " "),
            normalizers.Replace(Regex(r" \z"), ""),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=META, prepend_scheme="first", split=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(META, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (SPECIAL_TOKENS["eos"], SPECIAL_IDS["eos"]),
        (SPECIAL_TOKENS["bos"], SPECIAL_IDS["bos"]),
        trim_offsets=False,
        add_prefix_space=False,
    )
    # the mask stands for a word with its space, as in RoBERTa: "the <mask> sat" and "the<mask> sat" are the same
    tokenizer.add_special_tokens(
        [
            AddedToken(token, lstrip=name == "mask", special=True, normalized=False)
            for name, token in SPECIAL_TOKENS.items()
        ]
    )
    return tokenizer


def tokenizer_config(longest: int) -> dict[str, Any]:
    """What `AutoTokenizer` reads beside `tokenizer.json`; `longest` is the largest number of tokens of a sample."""
    token = SPECIAL_TOKENS
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "bos_token": token["bos"],
        "cls_token": token["bos"],
        "eos_token": token["eos"],
        "sep_token": token["eos"],
        "pad_token": token["pad"],
        "unk_token": token["unk"],
        "mask_token": token["mask"],
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def write_tokenizer(folder: Path, model: bytes, kind: SentencePiece, unicode_form: str, longest: int) -> None:
    """Write `spm.model`, `tokenizer.json` and `tokenizer_config.json`, each atomically."""
    fast = fast_tokenizer(load(model), kind, unicode_form)
    write_bytes(folder / "tokenizer.json", fast.to_str(pretty=False).encode())
    write_json(folder / "tokenizer_config.json", tokenizer_config(longest))
    write_bytes(folder / "spm.model", model)
