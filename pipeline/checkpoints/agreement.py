"""Which checkpoint all ranks go on from: each looks for itself, and one machine may see what another does not."""

import sys
from typing import Any

import torch
import torch.distributed as dist

from pipeline.checkpoints.run_folder import RunFolder
from pipeline.engine.layout import working_device
from pipeline.errors import RunError

SAME_FOLDER = "do all machines see the same folder?"


def agree(run: RunFolder, manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """The newest checkpoint that is sound to every rank, on all ranks together.

    Args:
        manifest: of the newest that is sound to this one; None: there are none.

    Raises:
        RunError: on every rank: some see none, or another of the same step.
    """
    while True:
        step, digest = (manifest["step"], int(manifest["digest"][:15], 16)) if manifest else (0, 0)
        newest, oldest = extremes(step)
        if newest == oldest:
            if len(set(extremes(digest))) > 1:
                raise RunError(f"{run.checkpoints}: the ranks see different checkpoints of step {step}; {SAME_FOLDER}")
            return manifest
        if not oldest:
            raise RunError(f"{run.checkpoints}: a rank sees step {newest}, another no checkpoint; {SAME_FOLDER}")
        if dist.get_rank() == 0:
            said = f"passed over: {run.checkpoint(newest)}: is sound to some ranks alone"
            print(f"kilobatch: {said}", file=sys.stderr, flush=True)
        if step > oldest:
            manifest, _ = run.newest_sound(oldest)


def extremes(number: int) -> tuple[int, int]:
    """The largest and the least over all ranks."""
    mine = torch.tensor([number, -number], dtype=torch.int64, device=working_device())
    dist.all_reduce(mine, op=dist.ReduceOp.MAX)
    largest, least = mine.tolist()
    return largest, -least
