"""Worker processes without the second or two that Python takes to import Beam: one process imports all and forks them.

It is `python -m preprocess.forks DESCRIPTOR`, with one end of a pair of sockets, and ends when the other end is closed:
with the command, however that ends. Neither Python nor gRPC has threads in it, which its forks would lack. For each
worker it is sent one end of another pair, through which the worker is told its environment and folder, and says `DONE`
when its work is.
"""

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

DONE = b"done"


@contextmanager
def for_good() -> Iterator[None]:
    """What is made in the block is never looked through for garbage, neither then nor at the end of the process.

    For Beam and what it imports that takes a third of a second each time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _Forks:
    """The process that forks, and this one's end of the sockets between them."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            program = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self.process = subprocess.Popen(program, pass_fds=[theirs.fileno()])
        atexit.register(self.close)

    def close(self) -> None:
        self._control.close()
        self.process.wait()

    def fork(self, environment: dict[str, str]) -> socket.socket:
        mine, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"."], [theirs.fileno()])
        mine.sendall(json.dumps({"environment": environment, "folder": str(Path.cwd())}).encode())
        mine.shutdown(socket.SHUT_WR)
        return mine


_started: list[_Forks] = []


def start() -> None:
    """Have the process that forks, which imports from now on what workers need; one for all pipelines."""
    if not _started or _started[-1].process.poll() is not None:  # none yet, or an interrupted run has killed it
        _started.append(_Forks())


def fork(environment: dict[str, str]) -> socket.socket:
    """Start a worker, whose whole environment is given; from the socket come `DONE` and an end, or its end alone."""
    start()
    return _started[-1].fork(environment)


def _reap(number: int, frame: FrameType | None) -> None:
    """Wait for workers that have ended, so that what they computed counts as this process's children's."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main(descriptor: int) -> None:
    """Fork a worker for each descriptor that comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal
    with for_good():
        from pipeline import leash
        from preprocess import run, worker  # noqa: F401  (run: it imports all that tasks need)

    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(fileno=descriptor) as control:
        while received := socket.recv_fds(control, 1, 1)[1]:
            parent = os.getpid()
            if os.fork() == 0:
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                leash.hold()
                if os.getppid() == parent:  # else it has ended already
                    worker.main(received[0])
                os._exit(1)
            os.close(received[0])


if __name__ == "__main__":
    main(int(sys.argv[1]))
