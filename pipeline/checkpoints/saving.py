"""Saving a checkpoint behind the training loop's back (law 4): the loop waits only for a copy to host memory.

    loop, all ranks    1  finish the save before, if one is in flight
                       2  copy what the rank keeps (`pipeline.checkpoints.snapshot`), and go on
    thread, each rank  3  make `.tmp-step-…`, write `rank-….safetensors` into it, digested on the way, and sync it
    loop, all ranks    4  when a step's all-reduce says that every rank has: exchange sizes and digests
    thread, rank 0     5  write and sync the manifest, sync the folder, rename it to `step-…`, sync `checkpoints`
                       6  prune: rename an old checkpoint to `.tmp-pruned-…`, delete it, and the next
    loop, all ranks    7  when a step's all-reduce says that this is done: the save is over

Only the loop communicates and only the threads touch files. What is killed before the rename of 5 leaves a hidden
folder, which the next start removes; behind it there is a whole checkpoint. `finish` goes through 4 to 7 at once.
"""

import errno
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pipeline.checkpoints.run_folder import FORMAT, KIND, RunFolder
from pipeline.checkpoints.snapshot import Snapshot
from pipeline.engine.engine import Engine, Fragment
from pipeline.engine.layout import working_device
from pipeline.errors import RunError
from pipeline.files import (
    MANIFEST,
    TEMPORARY,
    canonical_json,
    publish_folder,
    seal,
    sync_folder,
    write_digested,
    write_json,
)


def rank_file(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


@dataclass(frozen=True)
class Outcome:
    """How a rank's thread ended: numbers, so that nothing is pickled to tell the others."""

    size: int = 0  # bytes of its file, also if it could not write it
    error: int = 0  # errno
    sha256: bytes = bytes(32)


@dataclass(frozen=True)
class Save:
    """A save in flight."""

    final: Path
    manifest: dict[str, Any]  # but for the files
    published: Callable[[], None]  # what rank 0's thread does behind the rename
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the manifest, once all are written

    @property
    def temporary(self) -> Path:
        return self.final.with_name(TEMPORARY + self.final.name)


class Saver:
    """The saves of a run, one at a time. `begin`, `settle` and `finish` are called on all ranks together.

    Args:
        every_minutes: `due` from so long after the last save was begun, or this was made; on rank 0.
        progress: called before every block that is written, in the thread.
    """

    def __init__(
        self,
        run: RunFolder,
        engine: Engine,
        every_minutes: float | None = None,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.run, self.engine, self.every_minutes, self.progress = run, engine, every_minutes, progress
        self.rank, self.begun = dist.get_rank(), time.monotonic()
        self.snapshot = Snapshot()
        self.thread = ThreadPoolExecutor(1, "save")
        self.save: Save | None = None
        self.work: Future[Outcome] | None = None  # of the thread; no save is in flight without

    @property
    def due(self) -> bool:
        """Whether it is time for one, by the clock of rank 0."""
        waited = (time.monotonic() - self.begun) / 60
        return self.rank == 0 and self.every_minutes is not None and waited >= self.every_minutes

    @property
    def ready(self) -> bool:
        """Whether this rank's thread is done: once all are, `settle` takes the save a stage further."""
        return self.work is not None and self.work.done()

    def begin(self, step: int, stamp: dict[str, Any], published: Callable[[], None] = lambda: None) -> None:
        """Save what the engine holds now, after `step` steps; it may change as soon as this returns.

        Args:
            stamp: recipe, digests, counters and versions: the manifest's own fields.
            published: called on rank 0, in the thread, once the checkpoint has its name.

        Raises:
            RunError: the save before could not be finished.
        """
        self.finish()
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "step": step,
            "updates": self.engine.updates,
            "tensors": self.engine.shapes,
            "states": self.engine.states,
            "loss_scale": self.engine.loss_scale.numbers() if self.engine.loss_scale else None,
            **stamp,
        }
        fragments = self.engine.fragments()
        if self.engine.stage == 0:  # every rank keeps everything: each writes an equal part
            fragments = [_share(fragment, self.rank, self.engine.world_size) for fragment in fragments]
        self.snapshot.take(fragments)
        self.save = Save(self.run.checkpoint(step), manifest, published)
        self.work = self.thread.submit(_write, self.save.temporary / rank_file(self.rank), self.snapshot, self.progress)
        self.begun = time.monotonic()

    def settle(self) -> None:
        """Go a stage further with the save in flight; waits where a rank's thread is not done.

        Raises:
            RunError: on every rank when any could not write; nothing is left under the checkpoint's name.
        """
        assert self.save is not None
        assert self.work is not None
        mine = self.work.result()
        outcomes = exchange(mine)
        if any(outcome.error for outcome in outcomes):
            raise RunError(_given_up(self.save, outcomes))
        if self.save.files:
            self.save = self.work = None
            return
        for rank, outcome in enumerate(outcomes):
            self.save.files[rank_file(rank)] = {"bytes": outcome.size, "sha256": outcome.sha256.hex()}
        if self.rank == 0:  # the others' outcomes stay as they are
            self.work = self.thread.submit(_publish, self.save, mine)

    def finish(self) -> None:
        """Wait until no save is in flight; raises as `settle` does."""
        while self.work is not None:
            self.settle()


def _share(fragment: Fragment, rank: int, world_size: int) -> Fragment:
    """This rank's part of what all ranks keep."""
    numel = len(fragment.tensors["weight"])
    begin, end = rank * numel // world_size, (rank + 1) * numel // world_size
    return Fragment(fragment.name, begin, {key: value[begin:end] for key, value in fragment.tensors.items()})


def _write(path: Path, snapshot: Snapshot, progress: Callable[[], None]) -> Outcome:
    def blocks() -> Iterator[bytes | memoryview]:
        for block in snapshot.blocks():
            progress()
            yield block

    try:
        _make(path.parent)
        return Outcome(snapshot.size, 0, write_digested(path, blocks()))
    except OSError as error:
        return Outcome(snapshot.size, error.errno or errno.EIO)


def _make(temporary: Path) -> None:
    """Whichever rank comes first. The run's own folder is not made again: it was deleted, or its disk is away."""
    try:
        temporary.mkdir(exist_ok=True)
    except FileNotFoundError:  # a first save
        temporary.parent.mkdir(exist_ok=True)
        temporary.mkdir(exist_ok=True)


def _publish(save: Save, mine: Outcome) -> Outcome:
    try:
        write_json(save.temporary / MANIFEST, seal({**save.manifest, "files": save.files}))
        publish_folder(save.temporary, save.final)
        sync_folder(save.final.parent.parent)  # `checkpoints` itself may be new
        save.published()
    except OSError as error:
        return replace(mine, error=error.errno or errno.EIO)
    return mine


def exchange(mine: Outcome) -> list[Outcome]:
    """Every rank's outcome, on every rank."""
    row = torch.tensor([mine.size, mine.error, *mine.sha256], dtype=torch.int64, device=working_device())
    rows = [torch.empty_like(row) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, row)
    return [Outcome(size, error, bytes(sha256)) for size, error, *sha256 in (row.tolist() for row in rows)]


def _given_up(save: Save, outcomes: list[Outcome]) -> str:
    """Remove what was written in vain, on all ranks together; what a person is told."""
    rank, error = next((rank, outcome.error) for rank, outcome in enumerate(outcomes) if outcome.error)
    why = f"rank {rank}: {os.strerror(error)}"
    if save.final.exists():
        return f"{save.final}: saved, but what came behind it failed: {why}"
    if dist.get_rank() == 0:
        shutil.rmtree(save.temporary, ignore_errors=True)
    dist.barrier()
    if error in (errno.ENOSPC, errno.EDQUOT):
        where = save.final.parent  # may be a link to another disk
        disk = os.statvfs(where if where.exists() else where.parent)
        sizes = [*(outcome.size for outcome in outcomes), len(canonical_json(save.manifest))]
        needed = sum(math.ceil(size / disk.f_frsize) for size in sizes) * disk.f_frsize  # files take whole blocks
        why += f"; it needs {needed:,} bytes, {disk.f_bavail * disk.f_frsize:,} are free"
    return f"{save.final}: not saved: {why}; the checkpoints before it are whole"
