"""A command that is killed −9 takes the processes that it started with it."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pipeline.files import TEMPORARY
from tests.preprocess.processes import command, needs_prism, prism
from tests.preprocess.small import prose, small_config, write_raw


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # whom nobody may have waited for yet
    return False


@pytest.mark.parametrize("runner", ["processes", pytest.param("prism", marks=needs_prism)])
def test_nobody_is_left_of_a_killed_command(tmp_path: Path, runner: str) -> None:
    write_raw(tmp_path / "raw")
    for book in range(10, 50):
        (tmp_path / "raw" / "books" / f"book-{book}.txt").write_text(prose(book, 300), encoding="utf-8")
    options = {
        "processes": ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
        "prism": [*prism("LOOPBACK"), "--experiments=use_loopback_process_worker"],
    }[runner]
    config = small_config(tmp_path / "raw", tmp_path / "corpus")
    started = subprocess.Popen(command(config, tmp_path, options), stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(f"corpus.stages/{TEMPORARY}documents-*/*/documents/unit-*.json")):
        assert started.poll() is None, started.stderr and started.stderr.read()
        time.sleep(0.01)
    processes = psutil.Process(started.pid).children(recursive=True)
    started.kill()
    started.wait()
    assert processes
    deadline = time.monotonic() + 60
    while (left := [process for process in processes if runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        process.kill()
    assert not left
