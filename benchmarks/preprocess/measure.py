"""Run a command as a process: its time, its largest process, and what each stage of preprocessing took."""

import re
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
    largest: int  # bytes that the largest process held
    stages: dict[str, float]


def command(module: str, *arguments: str) -> Ran:
    """Run a module as a process; a thread watches the memory of its process tree."""
    begin = time.perf_counter()
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
    return Ran(seconds, largest[0], {name: float(value) for name, value in STAGE.findall(errors)})
