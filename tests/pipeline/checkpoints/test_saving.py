"""A save behind the loop: what it holds, what fails of it, when it is due. One rank; integration/ has several."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from pipeline.checkpoints import saving
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.checkpoints.saving import Outcome, Saver
from pipeline.engine.engine import Fragment
from pipeline.errors import RunError
from pipeline.files import MANIFEST, read_json, verify_files


@pytest.fixture(autouse=True, scope="module")
def _one_rank() -> Iterator[None]:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Kept:
    """An engine as far as a save looks."""

    stage, world_size, updates, loss_scale = 1, 1, 3, None
    shapes, states = {"w": [2, 3]}, {"w": ["exp_avg", "exp_avg_sq"]}

    def __init__(self) -> None:
        self.tensors = {state: torch.randn(6) for state in ("weight", *self.states["w"])}

    def fragments(self) -> list[Fragment]:
        return [Fragment("w", 0, self.tensors)]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def left(run: RunFolder) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def fail_in(monkeypatch: pytest.MonkeyPatch, function: str, number: int) -> None:
    def failing(*_: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(saving, function, failing)


def test_what_changes_while_it_is_written_is_not_in_it(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, changed = Kept(), threading.Event()
    saver = Saver(run, engine)
    saver.begin(1, {})
    saver.finish()
    write = saving.write_digested

    def write_behind(path: Path, blocks: Iterator[bytes | memoryview]) -> bytes:
        changed.wait()
        return write(path, blocks)

    monkeypatch.setattr(saving, "write_digested", write_behind)
    before = {state: tensor.clone() for state, tensor in engine.tensors.items()}
    saver.begin(2, {"jumps": 5})
    assert not saver.ready
    engine.updates += 1
    for tensor in engine.tensors.values():
        tensor.zero_()
    changed.set()
    saver.finish()

    manifests = [read_json(run.checkpoint(step) / MANIFEST) for step in (1, 2)]
    assert manifests[0]["files"] == manifests[1]["files"]  # with their SHA-256
    assert [manifest["updates"] for manifest in manifests] == [3, 3]
    assert manifests[1]["jumps"] == 5
    verify_files(run.checkpoint(2), manifests[1]["files"])
    found = load_file(run.checkpoint(2) / "rank-00000.safetensors")
    for state, tensor in before.items():
        torch.testing.assert_close(found[f"{state}/w/0"], tensor, rtol=0, atol=0)


def test_it_is_visible_when_it_is_whole_and_over_when_settled_twice(run: RunFolder) -> None:
    seen: list[list[str]] = []
    saver = Saver(run, Kept())
    assert not saver.ready
    saver.begin(1, {}, lambda: seen.append(left(run)))
    saver.settle()  # written; now it is published
    saver.settle()
    assert seen == [["step-00000001"]]
    assert not saver.ready
    saver.begin(2, {})
    saver.begin(3, {})  # finishes the one before
    assert run.steps()[:2] == [1, 2]
    saver.finish()
    assert left(run) == ["step-00000001", "step-00000002", "step-00000003"]


def test_a_full_disk_is_told_with_what_was_needed_and_leaves_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = Saver(run, Kept())
    saver.begin(1, {})
    saver.finish()
    size = (run.checkpoint(1) / "rank-00000.safetensors").stat().st_size
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_frsize=1000, f_bavail=1))
    assert size < 1000  # a block for it, and one for the manifest
    for function in ("write_digested", "write_json", "publish_folder"):
        with monkeypatch.context() as patched:
            fail_in(patched, function, errno.ENOSPC)
            saver = Saver(run, Kept())
            saver.begin(2, {})
            with pytest.raises(RunError) as caught:
                saver.finish()
        assert str(caught.value) == (
            f"{run.checkpoint(2)}: not saved: rank 0: No space left on device; it needs 2,000 bytes, 1,000 are free;"
            " the checkpoints before it are whole"
        )
        assert left(run) == ["step-00000001"]


def test_another_rank_s_failure_ends_this_one_too(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = Saver(run, Kept())
    monkeypatch.setattr(saving, "exchange", lambda mine: [mine, Outcome(100, errno.EROFS)])
    saver.begin(1, {})
    with pytest.raises(RunError, match=r"step-00000001: not saved: rank 1: Read-only file system; the checkpoints"):
        saver.finish()
    assert left(run) == []


def test_a_run_that_was_deleted_is_not_made_anew(run: RunFolder) -> None:
    """It would hold one checkpoint without metrics; or its disk is away, and this is another one."""
    gone = RunFolder(run.path / "gone")
    saver = Saver(gone, Kept())
    saver.begin(1, {})
    with pytest.raises(RunError, match=r"step-00000001: not saved: rank 0: No such file or directory"):
        saver.finish()
    assert not gone.path.exists()


def test_a_failure_behind_the_rename_is_not_taken_for_an_unsaved_checkpoint(run: RunFolder) -> None:
    def cannot_prune() -> None:
        raise PermissionError(errno.EACCES, "")

    saver = Saver(run, Kept())
    saver.begin(1, {}, cannot_prune)
    with pytest.raises(RunError, match=r"step-00000001: saved, but what came behind it failed: rank 0: Perm"):
        saver.finish()
    assert run.steps() == [1]


def test_it_is_due_so_long_after_the_last(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(saving, "time", clock)
    never, saver = Saver(run, Kept()), Saver(run, Kept(), every_minutes=1.5)
    for now, due in ((1089.0, False), (1090.0, True), (1200.0, True)):
        clock.now = now
        assert (saver.due, never.due) == (due, False)
    saver.begin(1, {})
    assert not saver.due
    clock.now += 90
    assert saver.due
    saver.finish()
    saver.rank = 1  # rank 0's clock alone decides
    assert not saver.due
