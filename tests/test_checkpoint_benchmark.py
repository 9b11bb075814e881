"""That benchmarks.checkpoint runs; no time is judged."""

import subprocess
import sys


def test_a_save_is_measured_beside_deepspeed_s() -> None:
    command = [sys.executable, "-m", "benchmarks.checkpoint", "tiny", "--rounds", "1", "--behind", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "stall, of DeepSpeed's: " in done.stdout
    assert "bytes on disk a parameter: 12." in done.stdout
