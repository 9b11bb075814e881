"""SIGINT and SIGTERM while worker processes run: one line, nobody left, nothing half-written, finished stages kept."""

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from pipeline.files import TEMPORARY
from tests.preprocess.processes import cluster, command, needs_prism, prism
from tests.preprocess.small import prose, small_config, write_raw


@pytest.mark.parametrize(
    ("runner", "number"),
    [
        ("processes", signal.SIGINT),
        ("processes", signal.SIGTERM),
        ("dask", signal.SIGINT),
        pytest.param("prism", signal.SIGTERM, marks=needs_prism),
    ],
)
def test_a_signal_while_workers_run(tmp_path: Path, runner: str, number: int) -> None:
    write_raw(tmp_path / "raw")
    for book in range(10, 50):
        (tmp_path / "raw" / "books" / f"book-{book}.txt").write_text(prose(book, 300), encoding="utf-8")
    for name in ("made", "log"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        options = {
            "processes": lambda: ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
            "dask": lambda: stack.enter_context(cluster(tmp_path / "log", 2))[0],
            "prism": lambda: prism("LOOPBACK"),
        }[runner]()
        config = small_config(tmp_path / "raw", tmp_path / "made" / "corpus")
        started = subprocess.Popen(
            command(config, tmp_path, options), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        stages = tmp_path / "made" / "corpus.stages"
        while not list(stages.glob(f"{TEMPORARY}tokens-*/*/tokens/unit-*.json")):
            assert started.poll() is None, started.stderr and started.stderr.read()
            time.sleep(0.005)
        processes = psutil.Process(started.pid).children(recursive=True)
        assert len(processes) >= {"processes": 2, "dask": 0, "prism": 1}[runner]
        # Ctrl-C reaches the workers too, a batch system's SIGTERM only the command
        os.killpg(started.pid, number) if number == signal.SIGINT else os.kill(started.pid, number)
        _, errors = started.communicate(timeout=60)
        assert started.returncode == 130, errors
        assert errors.splitlines()[-1] == "kilobatch: interrupted", errors
        assert "keeps documents-" in errors, errors  # another process may have ended its line in between
        assert all(word not in errors for word in ("Traceback", "Error", "WARNING", "INFO")), errors
        assert not psutil.wait_procs(processes, timeout=10)[1]
    names = sorted(path.name.partition("-")[0] for path in stages.iterdir())
    assert names == ["documents", "tokenizer"]
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["corpus.stages"]
