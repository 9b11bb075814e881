"""How far a stage is, by counting the files that its tasks have finished: any runner that shares the folder will do."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.files import TEMPORARY

INTERVAL = 0.5  # seconds


def _finished(folder: Path, pattern: str) -> int:
    return sum(not path.name.startswith(TEMPORARY) for path in folder.glob(pattern))


@contextmanager
def progress(stage: str, total: int, folder: Path, pattern: str = "*.json") -> Iterator[None]:
    """A bar on stderr while the block runs; plain lines at its begin and end when that is no terminal."""
    console = Console(stderr=True, file=sys.stderr)
    if not console.is_terminal:
        print(f"{stage}: {total} to do", file=sys.stderr, flush=True)
        begin = time.monotonic()
        yield
        seconds = time.monotonic() - begin
        print(f"{stage}: {_finished(folder, pattern)} of {total} done in {seconds:.1f} s", file=sys.stderr, flush=True)
        return
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done = threading.Event()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(stage, total=total)

        def watch() -> None:
            while not done.wait(INTERVAL):
                bar.update(task, completed=_finished(folder, pattern))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            bar.update(task, completed=_finished(folder, pattern))
