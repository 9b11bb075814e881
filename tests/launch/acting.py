"""What the ranks of tests do instead of training: what a file says, some words for each start and rank.

`python -m tests.launch.acting FILE` starts them as DeepSpeed's launcher does, and ends all once one has failed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from pipeline import errors
from pipeline.rank import failed
from pipeline.watching import rank_log


def main(script: Path) -> int:
    """One rank; returns its exit code."""
    start, rank = int(os.environ[rank_log.START]), int(os.environ["RANK"])
    for act in json.loads(script.read_text())[start - 1][rank]:
        word, _, argument = act.partition(" ")
        if word == "save":  # a checkpoint of so many steps
            (script.parent / "reached").write_text(argument)
        elif word == "load":  # that of so many steps
            rank_log.note("loaded", step=int(argument))
        elif word == "say":
            print(argument, file=sys.stderr, flush=True)
        elif word == "kill":
            os.kill(os.getpid(), int(argument))
        elif word == "exit":
            os._exit(int(argument))
        elif word == "raise":
            kind, _, message = argument.partition(" ")
            return failed(getattr(errors, kind, RuntimeError)(message))
        elif word == "deaf":
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
        elif word == "after":  # that rank has failed
            while not _has_failed(start, int(argument)):
                time.sleep(0.02)
        elif word == "mark":
            rank_log.note("marked")
        elif word == "marked":  # that rank has come to its mark
            while not any(event["event"] == "marked" for event in _events(start)[int(argument)]):
                time.sleep(0.02)
        elif word == "until":  # a stop signal comes; then it has saved, or fails
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            rank_log.note("ready")
            signal.sigwait([signal.SIGUSR1])
            return failed(RuntimeError(argument) if argument else errors.Stopped("saved"))
        elif word == "stubborn":  # hears it, and goes on
            signal.signal(signal.SIGUSR1, lambda *_: rank_log.note("heard"))
            rank_log.note("ready")
            time.sleep(600)
        elif word == "wait":
            rank_log.note("ready")
            time.sleep(600)
    rank_log.note("end", code=0)
    return 0


def _events(start: int) -> dict[int, list[rank_log.Event]]:
    return rank_log.read_events(Path(os.environ[rank_log.FOLDER]), start)


def _has_failed(start: int, rank: int) -> bool:
    events = _events(start)[rank]
    if not events or events[-1]["event"] == "end":
        return bool(events)
    try:
        return psutil.Process(events[0]["pid"]).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def launch(script: str, world_size: int) -> int:
    """The launcher; its exit code is that of the first rank that it sees fail, modulo 256."""
    command = [sys.executable, "-m", "pipeline.rank", "tests.launch.acting", script]
    shared = {**os.environ, "WORLD_SIZE": str(world_size)}
    ranks = [subprocess.Popen(command, env={**shared, "RANK": str(rank)}) for rank in range(world_size)]
    while not all(rank.poll() == 0 for rank in ranks):
        if failed := next((rank.returncode for rank in ranks if rank.poll()), None):
            for rank in ranks:
                rank.terminate()
                rank.wait()
            return failed % 256
        time.sleep(0.1)
    return 0


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1], len(json.loads(Path(sys.argv[1]).read_text())[0])))
