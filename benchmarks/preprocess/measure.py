"""Run a command as a process: its time, its largest process, and what each stage of preprocessing took."""

import re
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import psutil

STAGE = re.compile(r"^(.+): \d+ of \d+ done in ([\d.]+) s$", re.M)


@dataclass(frozen=True)
class Ran:
    seconds: float
    processors: float  # seconds that all its processes computed: other work on the machine changes it less
    largest: int  # bytes that the largest process held
    stages: dict[str, float]


def _processors() -> float:
    """Seconds that processes which have ended have computed, those that they started among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(module: str, *arguments: str) -> Ran:
    """Run a module as a process; a thread watches the memory of its process tree."""
    begin, before = time.perf_counter(), _processors()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    largest, done = [0], threading.Event()

    def watch() -> None:
        root = psutil.Process(process.pid)
        while not done.wait(0.05):
            try:
                largest[0] = max(largest[0], *(p.memory_info().rss for p in [root, *root.children(recursive=True)]))
            except psutil.NoSuchProcess:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    errors = process.communicate()[1]
    seconds = time.perf_counter() - begin
    done.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{module} failed:\n{errors[-3000:]}")
    return Ran(
        seconds, _processors() - before, largest[0], {name: float(value) for name, value in STAGE.findall(errors)}
    )
