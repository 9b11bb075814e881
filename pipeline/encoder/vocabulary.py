"""Which id stands for which token: whether what learned one vocabulary may go on with another corpus. No torch."""

import json
from pathlib import Path

from pipeline.corpus.shards import Corpus
from pipeline.errors import InputError
from pipeline.files import file_sha256, read_json
from pipeline.provenance import TOKENIZER

FILES = (TOKENIZER, "vocab.json", "vocab.txt")  # the latter two of models from before it: BPE's, and BERT's


def vocabulary_file(folder: Path) -> Path | None:
    """The file of a model's folder that says its vocabulary, if one does."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read_vocabulary(path: Path) -> dict[int, str]:
    """Id → token, special and added tokens too where the file has them.

    Raises:
        InputError: not what `tokenizers` or `transformers` write under this name.
    """
    try:
        if path.suffix == ".txt":
            return dict(enumerate(path.read_text(encoding="utf-8").splitlines()))
        values = read_json(path)
        vocabulary = values["model"]["vocab"] if path.name == TOKENIZER else values
        if isinstance(vocabulary, dict):
            tokens = {int(number): str(token) for token, number in vocabulary.items()}
        else:  # of a unigram model: pairs of a piece and its score
            tokens = {number: str(piece) for number, (piece, _) in enumerate(vocabulary)}
        added = values.get("added_tokens", []) if path.name == TOKENIZER else []
        return tokens | {int(token["id"]): str(token["content"]) for token in added}
    except InputError:
        raise
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: not a tokenizer's vocabulary") from None


def check_same_vocabulary(folder: Path, corpus: Corpus) -> None:
    """That a model's ids are the corpus's, as far as its folder says: by its tokenizer's SHA-256, or token by token.

    Raises:
        InputError: they are not; it names both sides (law 5).
    """
    theirs, ours = vocabulary_file(folder), corpus.folder / "tokenizer" / TOKENIZER
    if theirs is None:
        return
    found = file_sha256(theirs)
    if found == corpus.tokenizer_fingerprint:
        return
    if f"tokenizer/{TOKENIZER}" not in corpus.manifest["files"]:
        raise InputError(f"{theirs}: SHA-256 {found}; {corpus.folder} was made with {corpus.tokenizer_fingerprint}")
    their_tokens, our_tokens = read_vocabulary(theirs), read_vocabulary(ours)
    compared = their_tokens.keys() | our_tokens.keys() if theirs.name == TOKENIZER else their_tokens.keys()
    for number in sorted(compared):  # the other files lack what was added to them
        if (their := their_tokens.get(number)) != (our := our_tokens.get(number)):
            raise InputError(f"{theirs}: id {number} is {_said(their)}, in {ours} {_said(our)}: another tokenizer")


def _said(token: str | None) -> str:
    return "no token" if token is None else json.dumps(token, ensure_ascii=False)
