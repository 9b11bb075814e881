"""What a command that was killed left in its run's folder beside the checkpoints, which the ranks see to themselves."""

from contextlib import suppress

from pipeline.checkpoints.run_folder import RunFolder
from pipeline.files import TEMPORARY

PREFLIGHT = ".preflight-"  # in the run's log folder: what a start asks its hosts to read, and what they write


def remove_leftovers(run: RunFolder) -> None:
    """Only of what is written under the run's lock, which the caller holds; what cannot be deleted stays."""
    written = (run.config, run.metrics, run.path / "profile" / run.config.name)
    found = [path for of in written for path in of.parent.glob(f"{TEMPORARY}????????-{of.name}")]
    for path in [*found, *run.log.glob(f"{PREFLIGHT}*")]:
        with suppress(OSError):
            path.unlink()
