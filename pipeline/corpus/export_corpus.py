"""A corpus for other programs: Megatron's indexed datasets, or Parquet for Hugging Face `datasets`.

OUT/manifest.json (which corpus it was made from, how, and the SHA-256 of every other file), OUT/tokenizer/ as in the
corpus, OUT/README.md (its dataset card, and how OUT is read), and OUT/*.bin with *.idx, or OUT/data/*.parquet.
"""

import importlib.metadata
import shutil
from pathlib import Path

from typing_extensions import TypedDict

from pipeline.corpus.as_megatron import write_megatron
from pipeline.corpus.as_parquet import write_parquet
from pipeline.corpus.shards import Corpus
from pipeline.errors import InputError
from pipeline.files import (
    MANIFEST,
    Manifest,
    describe_files,
    publish_folder,
    read_manifest,
    seal,
    sync_folder,
    unmakeable,
    verify_files,
    work_folder,
    write_json,
)
from pipeline.progress import progress_bar

KIND, FORMAT = "corpus-export", 1
LEVELS = {"megatron": ("sentence", "document"), "datasets": ("sample", "document")}  # what a row is; the usual first
CARD = "DATASET_CARD.md"


class Made(TypedDict):
    """What an export follows from: the corpus, and how it was written."""

    corpus_digest: str
    exported_as: str
    level: str
    sequence_length: int  # 0: of no matter


class ExportManifest(Manifest, Made):
    pass


def _made(corpus: Corpus, format: str, level: str, length: int) -> Made:
    """The choice of a user, completed.

    Raises:
        InputError: there is no such format, level or length.
    """
    if format not in LEVELS:
        raise InputError(f"--format: found {format!r}; accepted: {', '.join(LEVELS)}")
    level = level or LEVELS[format][0]
    if level not in LEVELS[format]:
        raise InputError(f"--level: found {level!r}; accepted with --format {format}: {', '.join(LEVELS[format])}")
    if level == "sample":
        length = length or min(corpus.sequence_lengths)
        corpus.check_packed(length, (corpus.packing,))
    elif length:
        raise InputError(f"--length: found {length}; it is for --format datasets --level sample")
    return Made(corpus_digest=corpus.digest, exported_as=format, level=level, sequence_length=length)


def export_corpus(folder: Path, output: Path, format: str, level: str = "", length: int = 0) -> bool:
    """Write a corpus, verified, in another format; it appears when it is whole.

    Args:
        format: `megatron` or `datasets`.
        level: what a sequence or row is, of `LEVELS`; empty: the format's first.
        length: tokens a sample; 0: the corpus's shortest.

    Returns:
        Whether it was written; else it was there, and is sound.

    Raises:
        InputError: no corpus, an unknown choice, or `output` is something else. DigestError: a file was altered.
    """
    corpus = Corpus(folder)
    made = _made(corpus, format, level, length)
    if output.exists() or output.is_symlink():
        _check_made(output, made)
        return False
    with progress_bar("verifying", len(corpus.manifest["files"])) as advance:
        corpus.verify(advance)
    shards = sum(entry["shards"] for entry in corpus.manifest["splits"].values())
    try:
        with work_folder(output) as work, progress_bar("exporting", shards) as advance:
            target = work / "export"
            target.mkdir()
            if made["exported_as"] == "megatron":
                write_megatron(corpus, target, made["level"], advance)
            else:
                write_parquet(corpus, target, made["level"], made["sequence_length"], advance)
            _finish(corpus, target, made)
            publish_folder(target, output)
    except OSError as error:  # such as a full disk
        raise unmakeable(output, error) from None
    return True


def _check_made(output: Path, made: Made) -> None:
    """That an output which is there is this very export.

    Raises:
        InputError: it is something else. DigestError: it is, and a file of it was altered since.
    """
    if (output / MANIFEST).is_file():
        manifest = read_manifest(output, KIND, FORMAT, ExportManifest)
        if all(manifest[key] == value for key, value in made.items()):
            verify_files(output, manifest["files"])
            return
    raise InputError(f"{output}: exists already; remove it or choose another name")


def _usage(made: Made) -> str:
    """What the card says of an export: what is in it, and how it is read."""
    level, length = made["level"], made["sequence_length"]
    if made["exported_as"] == "megatron":
        return f"""The corpus as Megatron's indexed datasets: each sequence is a {level}.

    --train-data-path FOLDER/train_text_{level} --valid-data-path FOLDER/valid_text_{level}
    --tokenizer-type HuggingFaceTokenizer --tokenizer-model FOLDER/tokenizer
"""
    row = f"sample of at most {length} tokens" if length else level
    return f"""The corpus as Parquet: each row is a {row}, `<s>` and `</s>` included.

    datasets.load_dataset("FOLDER")
"""


def _finish(corpus: Corpus, target: Path, made: Made) -> None:
    """Tokenizer, card and, last, the manifest."""
    (target / "tokenizer").mkdir()
    for name in corpus.manifest["files"]:
        if name.startswith("tokenizer/"):
            shutil.copyfile(corpus.folder / name, target / name)
    if CARD in corpus.manifest["files"]:
        card = (corpus.folder / CARD).read_text(encoding="utf-8")
        (target / "README.md").write_text(f"{card}\n## This folder\n\n{_usage(made)}", encoding="utf-8")
    files = [path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()]
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        **made,
        "tokenizer": corpus.manifest["tokenizer"],
        "files": describe_files(target, files),
        "versions": {name: importlib.metadata.version(name) for name in ("kilobatch", "pyarrow")},
    }
    write_json(target / MANIFEST, seal(manifest))
    for path in target.iterdir():
        if path.is_dir():
            sync_folder(path)
