"""From which step a run would go on: that of its newest sound checkpoint, hashed once as long as it is the same."""

import errno
from pathlib import Path

from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.errors import DigestError, InputError

Look = set[tuple[str, int, int, int]]  # path, inode, bytes and time of every file


class Newest:
    """Of the run that a command looks after. `verified`: the step of a checkpoint that was hashed just now, or 0."""

    def __init__(self, run: RunFolder, verified: int = 0) -> None:
        self.run = run
        self.inode = run.path.stat().st_ino
        self.sound: dict[Path, Look] = {}  # as they were when their digests held
        if verified:
            self.sound[run.checkpoint(verified)] = _look(run.checkpoint(verified))

    def step(self) -> int:
        """0 without a sound checkpoint; raises OSError where their folder cannot be read, or the run's is not there."""
        if self.run.path.stat().st_ino != self.inode:  # it was replaced, or what is mounted there is away
            raise OSError(errno.ESTALE, "is not the folder in which this run began", str(self.run.path))
        return next((step for step in reversed(self.run.steps()) if self._is_sound(self.run.checkpoint(step))), 0)

    def _is_sound(self, folder: Path) -> bool:
        look = _look(folder)
        if self.sound.get(folder) != look:
            try:
                verify_checkpoint(folder)
            except (DigestError, InputError):  # not kept in mind: what cannot be read now may be another time
                return False
            self.sound[folder] = look
        return True


def _look(folder: Path) -> Look:
    states = ((str(path), path.lstat()) for path in folder.rglob("*"))
    return {(path, state.st_ino, state.st_size, state.st_mtime_ns) for path, state in states}
