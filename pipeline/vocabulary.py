"""Which id stands for which token: whether what learned one vocabulary may go on with another corpus. No torch."""

import json
from pathlib import Path

from pipeline.errors import InputError
from pipeline.files import file_sha256, read_json
from pipeline.shards import Corpus

TOKENIZER = "tokenizer.json"


def read_vocabulary(path: Path) -> dict[int, str]:
    """Id → token of a `tokenizer.json`, special and added tokens too.

    Raises:
        InputError: not a tokenizer as the `tokenizers` library writes it.
    """
    tokenizer = read_json(path)
    try:
        vocabulary = tokenizer["model"]["vocab"]
        if isinstance(vocabulary, dict):
            tokens = {int(number): str(token) for token, number in vocabulary.items()}
        else:  # of a unigram model: pairs of a piece and its score
            tokens = {number: str(piece) for number, (piece, _) in enumerate(vocabulary)}
        return tokens | {int(added["id"]): str(added["content"]) for added in tokenizer.get("added_tokens", [])}
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: not a tokenizer: its model has no vocabulary") from None


def check_same_vocabulary(folder: Path, corpus: Corpus) -> None:
    """That a model's ids are the corpus's, as far as its folder says: by its tokenizer's SHA-256, or token by token.

    Raises:
        InputError: they are not; it names both sides (law 5).
    """
    theirs, ours = folder / TOKENIZER, corpus.folder / "tokenizer" / TOKENIZER
    if not theirs.is_file():
        return
    found = file_sha256(theirs)
    if found == corpus.tokenizer_fingerprint:
        return
    if f"tokenizer/{TOKENIZER}" not in corpus.manifest["files"]:
        raise InputError(f"{theirs}: SHA-256 {found}; {corpus.folder} was made with {corpus.tokenizer_fingerprint}")
    their_tokens, our_tokens = read_vocabulary(theirs), read_vocabulary(ours)
    for number in sorted(their_tokens.keys() | our_tokens.keys()):
        if (their := their_tokens.get(number)) != (our := our_tokens.get(number)):
            raise InputError(f"{theirs}: id {number} is {_said(their)}, in {ours} {_said(our)}: another tokenizer")


def _said(token: str | None) -> str:
    return "no token" if token is None else json.dumps(token, ensure_ascii=False)
