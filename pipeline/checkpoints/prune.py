"""`kilobatch checkpoint prune`: what a run would delete, by hand; what stays is verified first. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.checkpoints.retention import superfluous
from pipeline.checkpoints.run_folder import SET_ASIDE, RunFolder, none_sound, verify_checkpoint
from pipeline.errors import DigestError, InputError, Unreadable, UserError
from pipeline.files import TEMPORARY
from pipeline.pretrain_config import CheckpointConfig


@dataclass(frozen=True)
class Choice:
    """What is to become of what lies in RUN/checkpoints."""

    kept: list[int]  # steps, oldest first
    doomed: list[Path]
    unsound: list[UserError]  # why checkpoints do not count, which are left nevertheless


def choose(run: RunFolder, keep_last: int | None, keep_every: int | None, broken: bool) -> Choice:
    """What to delete of a run in which nobody trains: checkpoints that need not stay, and what was left unfinished.

    Only sound checkpoints count among the last `keep_last`, so that the newest sound one stays, however many newer ones
    are damaged. Those that are older than all of these are not verified, whether they go or stay.

    Args:
        keep_last, keep_every: as in the configuration; None: what the newest sound checkpoint was saved with.
        broken: whether those go too that are not sound, and those that a run has set aside. What cannot be read stays.

    Raises:
        InputError: there are no checkpoints. DigestError: none is sound. Unreadable: it may be the newest sound one.
    """
    newest, errors = run.newest_sound()
    if newest is None:
        raise none_sound(errors) if errors else InputError(f"{run.checkpoints}: no checkpoints")
    asked = {"keep_last": keep_last, "keep_every": keep_every}
    keep = CheckpointConfig.model_validate(newest["config"].get("checkpoint", {}))
    keep = keep.model_copy(update={key: value for key, value in asked.items() if value is not None})
    unsound = dict(zip(reversed(run.steps()), errors, strict=False)) | _not_sound(run, newest, keep)
    sound = [step for step in run.steps() if step not in unsound]
    doomed = superfluous(sound, keep)
    kept = [step for step in sound if step not in doomed]
    assert newest["step"] in kept
    damaged = [step for step, why in unsound.items() if broken and not isinstance(why, Unreadable)]
    goes = sorted({*doomed, *damaged})
    left_over = [path for prefix in (TEMPORARY, *[SET_ASIDE] * broken) for path in run.checkpoints.glob(f"{prefix}*")]
    left = [why for step, why in unsound.items() if step not in goes]
    return Choice(kept, [*map(run.checkpoint, goes), *sorted(left_over)], left)


def _not_sound(run: RunFolder, newest: dict[str, Any], keep: CheckpointConfig) -> dict[int, UserError]:
    """Which of the checkpoints before the newest sound one may not count among those that stay, and why."""
    sound: list[int] = [newest["step"]]
    unsound: dict[int, UserError] = {}
    for step in reversed([step for step in run.steps() if step < newest["step"]]):
        for_roll_back = step % keep.every_steps == 0 and all(other % keep.every_steps for other in sound)
        if len(sound) < keep.keep_last or for_roll_back:
            try:
                verify_checkpoint(run.checkpoint(step))
                sound.append(step)
            except (DigestError, InputError) as error:
                unsound[step] = error
    return unsound
