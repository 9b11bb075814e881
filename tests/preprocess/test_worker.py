"""A worker process of Beam's local runner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from preprocess import forks

LINGERING = """
import socket, threading
from preprocess import worker

def main(arguments):
    threading.Thread(target=threading.Event().wait).start()
    print("worked")

worker.sdk_worker_main.main = main
mine, theirs = socket.socketpair()
mine.sendall(b'{"environment": {}, "folder": "."}')
mine.shutdown(socket.SHUT_WR)
worker.main(theirs.detach())
"""


def test_a_worker_ends_with_its_work() -> None:
    """Its threads would let it linger; this one does for ever."""
    ended = subprocess.run([sys.executable, "-c", LINGERING], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "worked\n"), ended.stderr


def test_a_worker_that_cannot_work_does_not_say_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with forks.fork(dict(os.environ)) as worker:  # nobody tells it of a runner
        assert worker.recv(64) == b""
    forks._started[-1].process.kill()
    forks._started[-1].process.wait()
    monkeypatch.chdir(tmp_path)
    with forks.fork(dict(os.environ)) as worker:  # by another process
        assert worker.recv(64) == b""
