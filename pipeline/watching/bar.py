"""A progress bar of a process whose stderr is a log too: what is said there is in the log, and stands above the bar."""

import sys

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import Progress, ProgressColumn

from pipeline.watching.rank_log import Both


class _Above(FileProxy):
    """Whole lines above the bar: what is flushed may be a part of one."""

    def flush(self) -> None:
        pass


class Bar(Progress):
    """Rich's own would take stderr away from the log, and from a file that it is sent to."""

    def __init__(self, *columns: ProgressColumn, console: Console) -> None:
        logged = isinstance(sys.stderr, Both)
        super().__init__(*columns, console=console, redirect_stderr=not logged and sys.stderr.isatty())
        self.both = sys.stderr if isinstance(sys.stderr, Both) and sys.stderr.isatty() else None

    def start(self) -> None:
        super().start()
        if self.both:
            self.terminal = self.both.terminal
            self.above = self.both.terminal = _Above(self.console, self.terminal)

    def stop(self) -> None:
        if self.both:
            self.both.terminal = self.terminal
            FileProxy.flush(self.above)
            self.both = None
        super().stop()
