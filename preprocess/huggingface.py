"""What the tokenizers that are trained here have in common in Hugging Face's format, and the files of one.

`tokenizer.json` holds the normalisation of `preprocess.clean.unicode` as its own first step, so that raw text becomes
the corpus's ids.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, processors

from pipeline.files import write_bytes, write_json
from preprocess.clean.unicode import INVISIBLE, META
from preprocess.vocabulary import SPECIAL_IDS, SPECIAL_TOKENS


def normalizer(unicode_form: str) -> normalizers.Normalizer:
    """Raw text → the words of a normalised one between single spaces, one before the first if there was one."""
    return normalizers.Sequence(
        [
            # a text's first word gets its space only if the text's first character was not removed: so put one there
            normalizers.Replace(Regex(rf"\A[{INVISIBLE}]+"), " "),
            normalizers.Replace(Regex(f"[{INVISIBLE}]"), ""),
            normalizers.NFC() if unicode_form == "NFC" else normalizers.NFKC(),
            normalizers.Replace(Regex(rf"[\s\x1c-\x1f{META}]+"), " "),
            normalizers.Replace(Regex(r" \z"), ""),
        ]
    )


def special_tokens() -> list[AddedToken]:
    """RoBERTa's, in the order of their ids."""
    # the mask stands for a word with its space, as in RoBERTa: "the <mask> sat" and "the<mask> sat" are the same
    return [
        AddedToken(token, lstrip=name == "mask", special=True, normalized=False)
        for name, token in SPECIAL_TOKENS.items()
    ]


def with_special_tokens(tokenizer: Tokenizer, trim_offsets: bool) -> Tokenizer:
    """The tokenizer with RoBERTa's special tokens, around each text and found in it.

    Args:
        trim_offsets: whether a token's characters are told without the space before its word.
    """
    tokenizer.post_processor = processors.RobertaProcessing(
        (SPECIAL_TOKENS["eos"], SPECIAL_IDS["eos"]),
        (SPECIAL_TOKENS["bos"], SPECIAL_IDS["bos"]),
        trim_offsets=trim_offsets,
        add_prefix_space=False,
    )
    tokenizer.add_special_tokens(special_tokens())
    return tokenizer


def form(tokenizer: Tokenizer) -> dict[str, Any]:
    """All that a tokenizer does to a text, but for its pieces."""
    values: dict[str, Any] = json.loads(tokenizer.to_str())
    model = {key: value for key, value in values["model"].items() if key not in ("vocab", "merges")}
    return {**values, "model": model}


def _config(tokens: dict[str, str], longest: int) -> dict[str, Any]:
    """What `AutoTokenizer` reads beside `tokenizer.json`; `longest` is the largest number of tokens of a sample."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "bos_token": tokens["bos"],
        "cls_token": tokens["bos"],
        "eos_token": tokens["eos"],
        "sep_token": tokens["eos"],
        "pad_token": tokens["pad"],
        "unk_token": tokens["unk"],
        "mask_token": tokens["mask"],
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def write_tokenizer(folder: Path, tokenizer: Tokenizer, tokens: dict[str, str], longest: int) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, each atomically."""
    write_bytes(folder / "tokenizer.json", tokenizer.to_str(pretty=False).encode())
    write_json(folder / "tokenizer_config.json", _config(tokens, longest))
