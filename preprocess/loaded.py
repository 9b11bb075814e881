"""A tokenizer that is given: any `tokenizer.json`, or the `vocab.json` and `merges.txt` of a byte-level BPE.

Its ids are Hugging Face's for the cleaned text. What it does to text is left as it is; only what it does around a text
is seen to: it neither cuts nor pads, and puts the text between the two special tokens that samples have.
"""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from pipeline.errors import InputError
from pipeline.files import file_sha256

# by what names tokenizers have them: RoBERTa's, BERT's, and others'
NAMES = {
    "bos": ("<s>", "[CLS]", "<bos>", "<cls>"),
    "pad": ("<pad>", "[PAD]"),
    "eos": ("</s>", "[SEP]", "<eos>", "<sep>"),
    "unk": ("<unk>", "[UNK]"),
    "mask": ("<mask>", "[MASK]"),
}


def files(path: Path) -> list[Path]:
    """The file of a tokenizer, or the two.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        return [path]
    if (path / "tokenizer.json").is_file():
        return [path / "tokenizer.json"]
    found = [path / "vocab.json", path / "merges.txt"]
    if all(file.is_file() for file in found):
        return found
    what = "a folder without them" if path.is_dir() else "nothing"
    raise InputError(f"tokenizer.path: {path}: found {what}; expected tokenizer.json, or vocab.json and merges.txt")


def digests(path: Path) -> list[str]:
    """SHA-256 of the tokenizer's files: a corpus follows from these, not from where they lie."""
    return [file_sha256(file) for file in files(path)]


def load(path: Path) -> tuple[Tokenizer, dict[str, str]]:
    """The tokenizer, and its special tokens by their names here (bos, pad, eos, unk, mask).

    Raises:
        InputError: it is none, or lacks a special token.
    """
    found = files(path)
    try:
        tokenizer = Tokenizer.from_file(str(found[0])) if len(found) == 1 else _byte_bpe(*found)
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"tokenizer.path: {found[0]}: not a tokenizer: {str(error).splitlines()[0]}") from None
    tokens = _special_tokens(tokenizer, path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    bos, eos = ((tokens[name], tokenizer.token_to_id(tokens[name])) for name in ("bos", "eos"))
    if tokenizer.encode("").ids != [bos[1], eos[1]]:
        pair = f"{bos[0]} $A {eos[0]} {eos[0]} $B {eos[0]}"
        tokenizer.post_processor = processors.TemplateProcessing(f"{bos[0]} $A {eos[0]}", pair, [bos, eos])
    return tokenizer, tokens


def _present(tokenizer: Tokenizer) -> dict[str, list[str]]:
    return {name: [piece for piece in NAMES[name] if tokenizer.token_to_id(piece) is not None] for name in NAMES}


def _special_tokens(tokenizer: Tokenizer, path: Path) -> dict[str, str]:
    found = {name: pieces[0] for name, pieces in _present(tokenizer).items() if pieces}
    missing = next((name for name in NAMES if name not in found), None)
    if missing:
        others = ", ".join(f"{name} {piece}" for name, piece in found.items()) or "none"
        expected = " or ".join(NAMES[missing])
        raise InputError(f"tokenizer.path: {path}: no {missing} token; expected {expected}; found {others}")
    return found


def _byte_bpe(vocabulary: Path, merges: Path) -> Tokenizer:
    """RoBERTa's or GPT-2's, as Hugging Face makes it of the two files."""
    tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    for name, pieces in _present(tokenizer).items():
        tokenizer.add_special_tokens([AddedToken(piece, lstrip=name == "mask", special=True) for piece in pieces])
    return tokenizer
