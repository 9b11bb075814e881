"""The folder of a run: its configuration, metrics and checkpoints, and which checkpoint to go on from. No torch.

RUN/config.yaml  metrics.jsonl  checkpoints/step-00001000/{manifest.json, rank-00000.safetensors, …}
"""

import errno
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.checkpoints.ranges import read_ranges
from pipeline.checkpoints.retention import delete, superfluous
from pipeline.corpus.shards import Corpus
from pipeline.engine.deepspeed_json import read_deepspeed_json
from pipeline.engine.loss_scale_numbers import LossScaleNumbers
from pipeline.errors import DigestError, InputError, Unreadable, UserError
from pipeline.files import Manifest, read_manifest, reading, remove, verify_file, write_bytes
from pipeline.pretrain_config import CheckpointConfig, PretrainConfig

KIND, FORMAT = "checkpoint", 3
SET_ASIDE = "broken-"  # prefix of checkpoints that no longer count
_STEP = re.compile(r"step-([0-9]{8}|[1-9][0-9]{8,17})")
PAUSES = (1, 4, 15, 40)  # seconds between readings: a network file system may be away for a moment


def versions() -> dict[str, str]:
    """What is stamped into every artifact of the pipeline."""
    return {name: version(name) for name in ("kilobatch", "torch", "deepspeed", "transformers", "safetensors")}


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it makes."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """The steps of the published checkpoints, oldest first; unfinished ones are not seen."""
        try:
            names = [entry.name for entry in self.checkpoints.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            if self.checkpoints.is_symlink():  # to a disk that is not mounted now: no reason to begin anew
                raise
            return []
        matches = map(_STEP.fullmatch, names)
        return sorted(int(match[1]) for match in matches if match)

    def newest_sound(self, last: int | None = None, every: int = 1) -> tuple[dict[str, Any] | None, list[UserError]]:
        """The manifest of the newest checkpoint whose digests all hold, and why newer ones were passed over.

        Args:
            last: no checkpoint behind this step is looked at. every: only at multiples of so many steps.

        Raises:
            Unreadable: one cannot be read, also after a minute, and that is not the medium's fault (EIO): to pass it
                over would be to do again what it may hold.
        """
        broken: list[UserError] = []
        pauses = iter(PAUSES)
        for step in reversed([step for step in self.steps() if (last is None or step <= last) and step % every == 0]):
            try:
                return _verify_patiently(self.checkpoint(step), pauses), broken
            except Unreadable as error:
                if error.number != errno.EIO:
                    raise
                broken.append(error)
            except (DigestError, InputError) as error:
                broken.append(error)
        return None, broken

    def to_resume(self, resume: str) -> tuple[dict[str, Any] | None, list[UserError]]:
        """The manifest of the checkpoint to go on from, as `resume` (auto, must, never) allows; None to begin.

        Raises:
            InputError: `never`, and there are checkpoints; `must`, and there are none.
            DigestError: there are checkpoints and none is sound: beginning anew would waste what a backup may hold.
        """
        if resume == "never" and self.steps():
            raise InputError(f"{self.checkpoints}: has checkpoints, and resume is 'never'; give another output")
        manifest, broken = self.newest_sound()
        if manifest is None and broken:
            raise none_sound(broken)
        if manifest is None and resume == "must":
            raise InputError(f"{self.checkpoints}: no checkpoint, and resume is 'must'")
        return manifest, broken

    def set_aside_after(self, step: int) -> None:
        """Rename checkpoints behind `step`, broken or rolled back, so that none of them counts again."""
        for later in (later for later in self.steps() if later > step):
            aside = self.checkpoints / f"{SET_ASIDE}{self.checkpoint(later).name}"
            if os.path.lexists(aside):
                remove(aside)
            self.checkpoint(later).rename(aside)

    def prune(self, keep: CheckpointConfig) -> None:
        """Delete the checkpoints that need not stay."""
        delete(map(self.checkpoint, superfluous(self.steps(), keep)))

    def forget_metrics_after(self, step: int, *, resuming: bool = True) -> None:
        """Drop what a run logged behind the checkpoint it goes on from: those steps are about to be done again.

        Args:
            resuming: an interrupted run; it will do roll-backs to that checkpoint again too.
        """
        if not self.metrics.is_file():
            return
        kept = []
        for line in self.metrics.read_bytes().splitlines():
            try:
                event = json.loads(line)
                if event["step"] + (resuming and event.get("event") == "rollback") <= step:
                    kept.append(line + b"\n")
            except (ValueError, KeyError):
                continue  # the last line of a killed run may be torn
        write_bytes(self.metrics, b"".join(kept))

    def last_steps(self, count: int) -> list[dict[str, Any]]:
        """The last `count` lines of the metrics that are a step's, oldest first; there may be fewer."""
        if not self.metrics.is_file():
            return []
        newest = (json.loads(line) for line in reversed(self.metrics.read_bytes().splitlines()))
        return list(itertools.islice((line for line in newest if line["event"] == "train"), count))[::-1]


def identity(config: PretrainConfig, corpus: Corpus) -> dict[str, Any]:
    """What must be the same for a checkpoint to be used: corpus, tokenizer and recipe."""
    return {
        "corpus_digest": corpus.digest,
        "tokenizer_fingerprint": corpus.tokenizer_fingerprint,
        "vocab_size": corpus.vocab_size,
        "recipe": config.recipe(),
    }


def stamp(config: PretrainConfig, corpus: Corpus) -> dict[str, Any]:
    """What travels with a checkpoint (law 5): its identity, the resolved settings and the versions that made it."""
    return {
        **identity(config, corpus),
        "config": config.model_dump(mode="json"),
        "deepspeed": read_deepspeed_json(config.deepspeed),
        "versions": versions(),
    }


Count = Annotated[int, Field(ge=0, lt=2**53)]  # what others read as a floating-point number is exact
Name = Annotated[str, Field(pattern=r"^[!-~]+$")]  # a message with any other would steer a terminal


class CheckpointManifest(Manifest):
    """A checkpoint's manifest: parameters → shapes and optimizer's states, Megatron's counters, and the stamp."""

    step: Count
    updates: Count  # of the optimizer: fewer than steps where some were skipped
    tensors: dict[Name, Annotated[list[Annotated[int, Field(ge=0, lt=2**40)]], Field(max_length=8)]]
    states: dict[Name, list[Name]]
    loss_scale: LossScaleNumbers | None  # None without a dynamic one: in fp32 and bf16
    jumps: Count  # of the data, ahead of the steps
    skipped_in_a_row: Count  # steps, the last of which is this one
    rolled_back_to: Annotated[int, Field(ge=-1, lt=2**53)]  # step; −1: never
    rollbacks: Count  # in a row to that one
    consumed_samples: Count
    consumed_tokens: Count
    corpus_digest: str
    tokenizer_fingerprint: str
    recipe: dict[str, Any]
    config: dict[str, Any]
    deepspeed: dict[str, Any]
    versions: dict[str, str]


def read_checkpoint_manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest, without a look at its files; raises as `read_manifest` does."""
    return read_manifest(folder, KIND, FORMAT, CheckpointManifest)


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest, after every file has been compared with its digest, and then with the tensors it names.

    Raises:
        InputError, DigestError: names the file, and what was expected and found.
    """
    with reading(folder):
        if folder.is_symlink():
            raise InputError(f"{folder}: a symbolic link where a checkpoint is expected")
        manifest = read_checkpoint_manifest(folder)
        if f"step-{manifest['step']:08d}" != folder.name:
            raise DigestError(f"{folder}: holds step {manifest['step']}; it was renamed")
        for path in sorted(folder.rglob("*.safetensors")):
            if path.relative_to(folder).as_posix() not in manifest["files"]:
                raise DigestError(f"{path}: not in the manifest; nothing says where it comes from")
        for name, entry in manifest["files"].items():
            verify_file(folder, name, entry)
        read_ranges(folder, manifest)
    return manifest


def _verify_patiently(folder: Path, pauses: Iterator[float]) -> dict[str, Any]:
    """`verify_checkpoint`, again after each pause where the files cannot be read."""
    while True:
        try:
            return verify_checkpoint(folder)
        except Unreadable as error:
            if (pause := next(pauses, None)) is None:
                raise
            print(f"kilobatch: {error}; it is read again in {pause} s", file=sys.stderr, flush=True)
            time.sleep(pause)


def none_sound(broken: list[UserError]) -> DigestError:
    """What to raise where every checkpoint was passed over, newest first."""
    kind = Unreadable if any(isinstance(error, Unreadable) for error in broken) else DigestError
    return kind(f"no checkpoint is sound; the newest: {broken[0]}")


def check_provenance(manifest: dict[str, Any], ours: dict[str, Any], folder: Path) -> None:
    """A checkpoint goes on only with the corpus, tokenizer and recipe it was made with (law 5).

    Raises:
        InputError: names the first difference and both sides.
    """
    for key in ("corpus_digest", "tokenizer_fingerprint"):
        if manifest[key] != ours[key]:
            raise InputError(f"{folder}: its {key} is {manifest[key]}, this corpus has {ours[key]}")
    _compare("", manifest["recipe"], ours["recipe"], folder)


def _compare(prefix: str, theirs: Any, ours: Any, folder: Path) -> None:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(
            theirs.keys() | ours.keys(), key=lambda key: (key != "type", key)
        ):  # the type decides the rest
            _compare(f"{prefix}.{key}" if prefix else key, theirs.get(key), ours.get(key), folder)
    elif theirs != ours:
        raise InputError(f"{folder}: was trained with {prefix} = {theirs}, the configuration says {ours}")
