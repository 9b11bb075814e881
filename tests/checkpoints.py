"""Small checkpoints as a run leaves them: real files under a real manifest, in milliseconds and without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from pipeline.checkpoints.run_folder import FORMAT, KIND, RunFolder
from pipeline.files import MANIFEST, describe_files, read_json, seal, write_json

WEIGHTS = "rank-00000.safetensors"


def stamp_of(step: int) -> dict[str, Any]:
    """What a run tells a save of itself."""
    position = {"jumps": 0, "skipped_in_a_row": 0, "rolled_back_to": -1, "rollbacks": 0}
    counters = {"consumed_samples": 8 * step, "consumed_tokens": 64 * step}
    digests = {"corpus_digest": "c0ffee", "tokenizer_fingerprint": "facade"}
    return {**position, **counters, **digests, **{key: {} for key in ("recipe", "config", "deepspeed", "versions")}}


def checkpoint(run: RunFolder, step: int, world_size: int = 1, **stamped: Any) -> Path:
    """A checkpoint of one tensor of 4 · `world_size` elements, of which each rank has 4; its Adam moment beside it."""
    folder = run.checkpoint(step)
    folder.mkdir(parents=True)
    for rank in range(world_size):
        values = np.full(4, step, np.float32) + rank
        arrays = {f"weight/w/{4 * rank}": values, f"exp_avg/w/{4 * rank}": values}
        save_file(arrays, folder / f"rank-{rank:05d}.safetensors")
    fields = {"step": step, "updates": step, "loss_scale": None}
    fields |= {"tensors": {"w": [2, 2 * world_size]}, "states": {"w": ["exp_avg"]}}
    write_json(folder / MANIFEST, {"kind": KIND, "format": FORMAT, **fields, **stamp_of(step), **stamped})
    reseal(folder)
    return folder


def reseal(folder: Path, **changed: Any) -> None:
    """Digests of what a checkpoint now holds, as somebody would write them who wants it believed."""
    names = [path.name for path in folder.iterdir() if path.name != MANIFEST]
    write_json(
        folder / MANIFEST, seal({**read_json(folder / MANIFEST), "files": describe_files(folder, names), **changed})
    )


def put_tensors(folder: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Other tensors in the first rank's file, under digests that hold."""
    save_file(dict(arrays), folder / WEIGHTS)
    reseal(folder)
