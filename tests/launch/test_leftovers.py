"""What a killed command left in its run's folder is gone with the next one; what others write there stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.local import locked
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.errors import InputError
from pipeline.files import beside

ROOT = Path(__file__).parents[2]
KILLED = """\
import os, signal, sys
from pathlib import Path
from launch.local import locked
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.files import atomic_path
run = RunFolder(Path(sys.argv[1]))
with locked(run), atomic_path(run.config) as config, atomic_path(run.metrics) as metrics:
    for path in (config, metrics, run.log / ".preflight-0123", run.log / ".preflight-0123-0"):
        path.touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def hidden(folder: Path) -> int:
    return len(list(folder.rglob(".*")))


def test_what_a_killed_command_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log.mkdir()
    command = [sys.executable, "-c", KILLED, str(run.path)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert hidden(run.path) == 4
    theirs = [beside(run.path / "report.html"), run.checkpoints / ".tmp-step-00000001", run.log / ".dry-run-0123"]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with locked(run):
        assert hidden(run.path) == len(theirs)
        mine = beside(run.config)
        mine.touch()
        with pytest.raises(InputError, match="another run is training here"), locked(run):
            pass
        assert mine.exists()
    assert all(path.exists() for path in theirs)
