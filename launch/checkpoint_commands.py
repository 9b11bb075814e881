"""`kilobatch checkpoint`: what the command line does with the checkpoints of a run."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import InputError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.checkpoints.run_folder import RunFolder

app = typer.Typer(help="List, check and delete the checkpoints of a run.", no_args_is_help=True)
Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder: `output` of its CONFIG", show_default=False)]


@app.command("list")
def checkpoint_list(run: Run) -> None:
    """The checkpoints of a run, oldest first: steps and samples done, size, age, and the ranks that wrote each.

    Only manifests are read; `verify` tells which are sound.

    Example: kilobatch checkpoint list demo/run
    """
    from pipeline.checkpoints.inspect_checkpoints import print_checkpoints

    raise typer.Exit(max(map(_say, print_checkpoints(_with_checkpoints(run), console())), default=0))


@app.command("verify")
def checkpoint_verify(run: Run) -> None:
    """Compare every file of every checkpoint of a run with its digest, and its tensors with its manifest.

    Example: kilobatch checkpoint verify demo/run
    """
    from pipeline.checkpoints.run_folder import verify_checkpoint

    folder, code = _with_checkpoints(run), 0
    for step in folder.steps():
        try:
            verify_checkpoint(folder.checkpoint(step))
            print(f"{folder.checkpoint(step)}: sound")
        except UserError as error:
            if os.path.lexists(folder.checkpoint(step)):  # a run that trains deletes some meanwhile
                code = max(code, _say(error))
    raise typer.Exit(code)


@app.command("prune")
def checkpoint_prune(
    run: Run,
    keep_last: Annotated[int | None, typer.Option(min=1, help="the newest sound ones that stay")] = None,
    keep_every: Annotated[int | None, typer.Option(min=1, help="those at multiples of so many steps stay too")] = None,
    broken: Annotated[bool, typer.Option("--broken", help="delete also what is not sound or was set aside")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, delete nothing")] = False,
) -> None:
    """Delete checkpoints that need not stay, after verifying those that do; never the newest sound one.

    What is not given is as in the run's configuration. Refused while the run trains.

    Example: kilobatch checkpoint prune demo/run --keep-last 2 --keep-every 1000 --dry-run
    """
    from launch.local import locked
    from pipeline.checkpoints.inspect_checkpoints import size, size_of
    from pipeline.checkpoints.prune import choose
    from pipeline.checkpoints.retention import delete

    folder = _with_checkpoints(run)
    with locked(folder):
        choice = choose(folder, keep_last, keep_every, broken)
        for error in choice.unsound:
            _say(error)
        sizes = {path: size_of(path) for path in choice.doomed}
        for path, bytes_ in sizes.items():
            print(f"{path}: {'would be' if dry_run else 'is'} deleted, {size(bytes_)}", flush=True)
        if not dry_run:
            delete(choice.doomed)
    freed = f"{'would free' if dry_run else 'freed'} {sum(sizes.values()):,} bytes"
    print(f"{folder.checkpoints}: {freed}; kept {', '.join(f'step {step:,}' for step in choice.kept)}")


def _with_checkpoints(run: Path) -> "RunFolder":
    from pipeline.checkpoints.run_folder import RunFolder

    folder = RunFolder(run)
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; expected that of a run")
    if not folder.steps():
        raise InputError(f"{folder.checkpoints}: no checkpoints")
    return folder


def _say(error: UserError) -> int:
    print(f"kilobatch: {' '.join(str(error).splitlines())}", file=sys.stderr)
    return error.exit_code


def console() -> "Console":
    """For tables and the text of others: no markup is read in it, and no line is broken."""
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=True)
