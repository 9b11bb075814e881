"""The shard format: token ids and where documents, sentences and packed samples begin in them.

A shard is two files. `train-00000-of-00008.tokens` is one flat little-endian array of ids: each document's tokens
followed by one separator (`</s>`). `train-00000-of-00008.index` is a safetensors file of offsets (uint64) into it:

    documents            (D + 1)  where each document begins, then the length of the array
    sentences            (S + 1)  where each sentence begins, then the length of the array
    samples.<T>          (N + 1)  where each packed sample for sequences of T tokens begins, then where the last ends
    pairs.<T>            (N, 4)   instead, in a corpus of segment pairs (`pipeline.corpus.pairs`)

A sample of length T is `<s> tokens[begin:end] </s>`, at most T ids, the separator before `end` left to the
closing `</s>`; so a new sequence length needs new offsets, not a new tokenisation. Any safetensors reader opens an
index; here it is memory-mapped, so that a corpus costs memory only where it is read.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
import numpy.typing as npt
from pydantic import Field
from safetensors.numpy import save
from typing_extensions import TypedDict

from pipeline.errors import DigestError, InputError
from pipeline.files import MANIFEST, Manifest, digest_of, inside, read_manifest, reading, verify_files
from pipeline.tensor_file import read_header

KIND, FORMAT = "corpus", 2
SENTENCES, PAIRS = ("full-sentences", "doc-sentences"), ("segment-pair",)  # packings: samples of one segment, of two

Offsets = npt.NDArray[np.uint64]
Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 while every id fits, else uint32; little-endian on disk."""
    return np.dtype("<u2" if vocab_size <= 65_536 else "<u4")


def shard_name(split: str, shard: int, shards: int) -> str:
    return f"{split}-{shard:05d}-of-{shards:05d}"


def write_shard(folder: Path, name: str, tokens: Tokens, index: Mapping[str, Offsets]) -> list[str]:
    """Write both files of a shard into a folder that is not yet published; returns their names."""
    assert tokens.dtype in (np.dtype("<u2"), np.dtype("<u4"))
    (folder / f"{name}.tokens").write_bytes(tokens.tobytes())
    offsets = {key: np.ascontiguousarray(value, "<u8") for key, value in index.items()}
    (folder / f"{name}.index").write_bytes(save(offsets))  # its `save_file` makes files that their owner alone can read
    return [f"{name}.tokens", f"{name}.index"]


def map_index(path: Path) -> dict[str, Offsets]:
    """The arrays of an index file, memory-mapped.

    Raises:
        DigestError: damaged so that it is no index any more. Only its digest shows whether its numbers hold.
    """
    header, data = read_header(path)
    arrays = {}
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        count = math.prod(entry["shape"])
        if entry["dtype"] != "U64" or end - begin != 8 * count:
            raise DigestError(f"{path}: array {key!r} is not of uint64")
        shape, offset = tuple(entry["shape"]), data + begin
        mapped = np.memmap(path, "<u8", "r", offset=offset, shape=shape) if count else np.zeros(shape, "<u8")
        arrays[key] = np.asarray(mapped)  # a plain array over the mapping: slicing the subclass costs microseconds
    return arrays


class SplitEntry(TypedDict):
    shards: Annotated[int, Field(ge=1, le=99_999)]


class Splits(TypedDict):
    train: SplitEntry
    valid: SplitEntry
    test: NotRequired[SplitEntry]


class SpecialIds(TypedDict):
    bos: int
    pad: int
    eos: int
    unk: int
    mask: int


class TokenizerEntry(TypedDict):
    vocab_size: Annotated[int, Field(ge=1)]
    special_ids: SpecialIds
    fingerprint: str


class CorpusManifest(Manifest):
    """What is read of a corpus's manifest; it says more."""

    tokenizer: TokenizerEntry
    splits: Splits
    packing: Literal["full-sentences", "doc-sentences", "segment-pair"]
    sequence_lengths: list[int]


def corpus_digest(manifest: Mapping[str, Any]) -> str:
    """What identifies a corpus: shards and tokenizer, not the names of its sources nor the versions that made it."""
    ours = {name: entry for name, entry in manifest["files"].items() if name.endswith((".tokens", ".index"))}
    theirs = {name: entry for name, entry in manifest["files"].items() if name.startswith("tokenizer/")}
    parts = {key: manifest[key] for key in ("tokenizer", "splits", "packing", "sequence_lengths")}
    return digest_of({"files": {**ours, **theirs}, **parts})


@dataclass(frozen=True)
class Shard:
    """One shard, memory-mapped."""

    tokens: Tokens
    index: dict[str, Offsets]

    @classmethod
    def open(cls, folder: Path, name: str, dtype: np.dtype[Any]) -> "Shard":
        path = inside(folder, f"{name}.tokens")
        empty = path.stat().st_size == 0  # numpy refuses to map an empty file
        tokens = np.zeros(0, dtype) if empty else np.asarray(np.memmap(path, dtype, "r"))
        return cls(tokens, map_index(inside(folder, f"{name}.index")))


class Corpus:
    """A finished corpus folder, read through its manifest.

    Args:
        folder: what `kilobatch preprocess` wrote.

    Raises:
        InputError: not a corpus. DigestError: its manifest was altered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder, KIND, FORMAT, CorpusManifest)
        self.digest = corpus_digest(self.manifest)
        self.vocab_size: int = self.manifest["tokenizer"]["vocab_size"]
        self.special_ids: dict[str, int] = self.manifest["tokenizer"]["special_ids"]
        self.tokenizer_fingerprint: str = self.manifest["tokenizer"]["fingerprint"]
        self.splits: list[str] = sorted(self.manifest["splits"], key=["train", "valid", "test"].index)
        self.packing: str = self.manifest["packing"]
        self.sequence_lengths: list[int] = self.manifest["sequence_lengths"]
        self._check_whole()

    def _check_whole(self) -> None:
        """That the manifest covers each shard, and that the special ids are the vocabulary's."""
        names = [
            f"{name}.{kind}"
            for split in self.splits
            for name in self.shard_names(split)
            for kind in ("tokens", "index")
        ]
        missing = next((name for name in names if name not in self.manifest["files"]), None)
        if missing:
            raise InputError(f"{self.folder / MANIFEST}: names no file {missing}; another program wrote it")
        wrong = {name: id for name, id in self.special_ids.items() if not 0 <= id < self.vocab_size}
        if wrong:
            raise InputError(f"{self.folder / MANIFEST}: special ids {wrong} are not of {self.vocab_size} pieces")

    def verify(self, advance: Callable[[], None] = lambda: None) -> None:
        """Compare every file with its SHA-256; see `pipeline.files.verify_files`."""
        verify_files(self.folder, self.manifest["files"], advance)

    def verify_sizes(self) -> None:
        """The cheap part of `verify`, done by every rank: each file is there and of its size."""
        for name, entry in self.manifest["files"].items():
            with reading(self.folder):
                path = inside(self.folder, name)
                size = path.stat().st_size if path.is_file() else -1
            if size != entry["bytes"]:
                found = "missing" if size < 0 else f"{size} bytes"
                raise DigestError(f"{path}: {found}, expected {entry['bytes']} bytes, SHA-256 {entry['sha256']}")

    def shard_names(self, split: str) -> list[str]:
        shards = int(self.manifest["splits"][split]["shards"])
        return [shard_name(split, shard, shards) for shard in range(shards)]

    def check_packed(self, sequence_length: int, packings: tuple[str, ...]) -> None:
        """That the corpus was packed in one of these ways and for this length.

        Raises:
            InputError: it was not.
        """
        if self.packing not in packings:
            raise InputError(f"{self.folder}: packing: found {self.packing}; accepted here: {', '.join(packings)}")
        if sequence_length not in self.sequence_lengths:
            lengths = ", ".join(map(str, self.sequence_lengths))
            raise InputError(f"{self.folder}: not packed for sequences of {sequence_length} tokens; it has {lengths}")

    def split(self, split: str, sequence_length: int) -> "Split":
        """The packed samples of one split at one sequence length.

        Raises:
            InputError: the corpus holds segment pairs, was not packed for that length, or the split has no sample.
        """
        self.check_packed(sequence_length, SENTENCES)
        return Split(self, split, sequence_length)


def open_shards(corpus: Corpus, split: str) -> list[Shard]:
    """All shards of a split."""
    dtype = token_dtype(corpus.vocab_size)
    return [Shard.open(corpus.folder, name, dtype) for name in corpus.shard_names(split)]


class Split:
    """Samples 0 … len − 1 of one split: all shards, one after the other.

    Args:
        corpus: an open corpus.
        split: `train`, `valid`, or `test` where the corpus has one.
        sequence_length: T, tokens a sample at most, `<s>` and `</s>` included.
    """

    def __init__(self, corpus: Corpus, split: str, sequence_length: int) -> None:
        self.corpus, self.sequence_length = corpus, sequence_length
        self.shards = open_shards(corpus, split)
        self.begins = [shard.index[f"samples.{sequence_length}"] for shard in self.shards]
        self.first = np.cumsum([0, *(len(begins) - 1 for begins in self.begins)])  # first sample of each shard
        if self.first[-1] == 0:
            raise InputError(f"{corpus.folder}: the {split} split has no samples")

    def __len__(self) -> int:
        return int(self.first[-1])

    def read(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Token ids of the given samples, shape (B, T): `<s> … </s>`, then `<pad>`."""
        ids = self.corpus.special_ids
        which = np.searchsorted(self.first, samples, side="right") - 1
        pieces = []
        for shard, local in zip(which.tolist(), (samples - self.first[which]).tolist(), strict=True):
            begin, end = self.begins[shard][local : local + 2].tolist()
            pieces.append(self.shards[shard].tokens[begin:end])
        lengths = np.array([len(piece) for piece in pieces])
        flat = np.concatenate(pieces)
        out = np.full((len(samples), self.sequence_length), ids["pad"], np.int32)
        out[:, 0] = ids["bos"]
        out[:, 1:][np.arange(self.sequence_length - 1) < lengths[:, None]] = flat
        unclosed = np.flatnonzero(flat[np.cumsum(lengths) - 1] != ids["eos"])  # a document's end closes a sample too
        out[unclosed, 1 + lengths[unclosed]] = ids["eos"]
        return out
