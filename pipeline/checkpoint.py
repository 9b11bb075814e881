"""Checkpoints: named tensors in safetensors, each element written once by one rank, all digested (laws 4, 6).

A rank writes what it keeps (`Engine.fragments`) as one-dimensional ranges under the key `<state>/<parameter>/<begin>`,
so a checkpoint does not depend on the ZeRO stage, the precision or the number of ranks that made it: whoever loads it
reads the ranges that overlap its own.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from pipeline.engine import Engine, Fragment
from pipeline.errors import InputError, RunError
from pipeline.files import MANIFEST, TEMPORARY, publish_folder, remove_unfinished, seal, sync_file, write_json
from pipeline.ranges import key_of, read_ranges
from pipeline.run_folder import FORMAT, KIND, RunFolder


def rank_file(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


def save(run: RunFolder, engine: Engine, step: int, stamp: dict[str, Any]) -> Path:
    """Write a checkpoint after `step` steps, on all ranks together, and return its folder.

    Args:
        stamp: recipe, digests, counters and versions: the manifest's own fields.

    Raises:
        RunError: on every rank when any rank could not write; nothing is left under a checkpoint's name.
    """
    rank, final = dist.get_rank(), run.checkpoint(step)
    temporary = final.with_name(TEMPORARY + final.name)
    if rank == 0:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        remove_unfinished(run.checkpoints)
        temporary.mkdir()
    dist.barrier()
    fragments = engine.fragments()
    if engine.stage == 0:  # every rank keeps everything: each writes an equal part
        fragments = [_share(fragment, rank, engine.world_size) for fragment in fragments]
    size, digest, error = _write(temporary / rank_file(rank), fragments)
    sizes, digests = _gather_digests(size, digest)
    if -1 in sizes:
        what = str(error) if error else f"rank {sizes.index(-1)} could not write its part"
        raise RunError(f"{final}: not saved: {' '.join(what.split())}; the checkpoints before it are whole")
    if rank == 0:
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "step": step,
            "updates": engine.updates,
            "tensors": engine.shapes,
            "states": engine.states,
            "files": {
                rank_file(i): {"bytes": size, "sha256": digest}
                for i, (size, digest) in enumerate(zip(sizes, digests, strict=True))
            },
            **stamp,
        }
        write_json(temporary / MANIFEST, seal(manifest))
        publish_folder(temporary, final)
    dist.barrier()
    return final


def _share(fragment: Fragment, rank: int, world_size: int) -> Fragment:
    """This rank's part of what all ranks keep."""
    numel = len(fragment.tensors["weight"])
    begin, end = rank * numel // world_size, (rank + 1) * numel // world_size
    return Fragment(fragment.name, begin, {key: value[begin:end] for key, value in fragment.tensors.items()})


def _write(path: Path, fragments: Iterable[Fragment]) -> tuple[int, bytes, Exception | None]:
    """Write and sync this rank's file; its size, SHA-256, and the error if there was one."""
    arrays = {
        key_of(state, fragment.name, fragment.begin): tensor.cpu().numpy()
        for fragment in fragments
        for state, tensor in fragment.tensors.items()
        if len(tensor)
    }
    try:
        save_file(arrays, path)
        sync_file(path)
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").digest(), None
    except (OSError, SafetensorError) as error:
        return -1, bytes(32), error


def _gather_digests(size: int, digest: bytes) -> tuple[list[int], list[str]]:
    """Every rank's size (−1 where it could not write) and SHA-256, as tensors: nothing is unpickled."""
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    mine = torch.tensor([size, *digest], dtype=torch.int64, device=device)
    gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, mine)
    sizes = [int(row[0]) for row in gathered]
    return sizes, [bytes(row[1:].tolist()).hex() for row in gathered]


class Pieces:
    """The ranges of every tensor of a checkpoint, over all its files. The files must have been verified."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.shapes: dict[str, list[int]] = manifest["tensors"]
        self.states: dict[str, list[str]] = manifest["states"]
        self.ranges = read_ranges(folder, manifest)
        self.files = {name: safe_open(folder / name, framework="pt") for name in manifest["files"]}

    def read_into(self, state: str, name: str, begin: int, out: Tensor) -> None:
        """Fill a one-dimensional tensor with elements `begin` … of a parameter's state."""
        end = begin + out.numel()
        for first, last, file, key in self.ranges[f"{state}/{name}"]:
            low, high = max(begin, first), min(end, last)
            if low < high:
                out[low - begin : high - begin].copy_(self.files[file].get_slice(key)[low - first : high - first])

    def whole(self, name: str) -> Tensor:
        """The fp32 weights of one parameter, in its shape."""
        out = torch.empty(torch.Size(self.shapes[name]).numel())
        self.read_into("weight", name, 0, out)
        return out.view(self.shapes[name])


def load(folder: Path, manifest: dict[str, Any], engine: Engine) -> None:
    """Set weights and optimizer states from a verified checkpoint, at any world size, ZeRO stage and precision.

    Raises:
        InputError: they are another model's, or another optimizer's.
    """
    pieces = Pieces(folder, manifest)
    if (pieces.shapes, pieces.states) != (engine.shapes, engine.states):
        raise InputError(f"{folder}: holds other tensors than this recipe has; another program wrote it")
    for fragment in engine.fragments():
        for state, tensor in fragment.tensors.items():
            pieces.read_into(state, fragment.name, fragment.begin, tensor)
    engine.restored(manifest["updates"])


def load_weights(folder: Path, manifest: dict[str, Any], model: torch.nn.Module) -> None:
    """Set a plain model's weights from a verified checkpoint.

    Raises:
        InputError: they are another model's. RunError: they are not all finite.
    """
    pieces = Pieces(folder, manifest)
    if pieces.shapes != {name: list(parameter.shape) for name, parameter in model.named_parameters()}:
        raise InputError(f"{folder}: holds other tensors than the model of its run has; another program wrote it")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(pieces.whole(name))
            if not parameter.isfinite().all():
                raise RunError(f"{folder}: {name} holds values that are not finite numbers: the run diverged")
