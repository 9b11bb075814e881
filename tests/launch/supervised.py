"""A supervisor of the ranks of `acting`: `python -m tests.launch.supervised FOLDER WAIT MAX`, which has script.json."""

import os
import signal
import sys
from pathlib import Path

from launch.attempt import Start
from launch.supervise import NotNow, Run, supervise
from pipeline.errors import UserError
from pipeline.pretrain_config import RestartsConfig


def main(folder: Path, wait: float, most: int) -> int:
    """As the command line does, one line and the exit code of what went wrong."""
    reached = folder / "reached"
    command = [sys.executable, "-m", "tests.launch.acting", str(folder / "script.json")]

    def make(made: int) -> Start:
        absent = folder / "absent"  # how often in a row there are no hosts for a restart
        if absent.exists() and 0 < made <= int(absent.read_text()):
            raise NotNow("no host is fit")
        return Start(command, dict(os.environ), world_size=2)

    run = Run(
        folder / "log",
        make,
        lambda: int(reached.read_text()) if reached.exists() else 0,
        RestartsConfig(max_restarts=most, first_wait_seconds=wait),
    )
    with Path(os.devnull).open() as lock:
        try:
            return supervise(run, lock.fileno())
        except UserError as error:
            print(f"kilobatch: {error}", file=sys.stderr)
            return error.exit_code


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
