"""Which checkpoints of a run stay, and how the others go: none is ever seen half-deleted. No torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.files import beside, remove, sync_folder
from pipeline.pretrain_config import CheckpointConfig


def superfluous(steps: Sequence[int], keep: CheckpointConfig) -> list[int]:
    """Those of the checkpoints at `steps`, oldest first, that need not stay.

    The last `keep_last` stay, all at multiples of `keep_every`, and the newest at a multiple of `every_steps`: a
    roll-back goes there, also when stops have saved newer ones.
    """
    regular = [step for step in steps if step % keep.every_steps == 0][-1:]
    kept = {*steps[-keep.keep_last :], *regular}
    return [step for step in steps if step not in kept and (not keep.keep_every or step % keep.keep_every)]


def delete(folders: Iterable[Path]) -> None:
    """Delete checkpoints, or what else lies beside them: each is whole under its name, or not there, whenever it stops.

    All are renamed, and that is on disk, before a file goes; what a crash leaves has a temporary name.
    """
    doomed = [(folder, beside(folder)) for folder in folders]
    for folder, hidden in doomed:
        folder.rename(hidden)
    for parent in {folder.parent for folder, _ in doomed}:
        sync_folder(parent)
    for _, hidden in doomed:
        remove(hidden)
