"""Stop signals of a command that waits for other processes."""

import os
import select
import signal
import time

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
ECHO_SECONDS = 0.1  # `timeout` and others signal a process and then its group, which is one request


class Signals:
    """The stop signals that this process has heard since this was made; they end nothing by themselves.

    Attributes:
        heard: in order. reader: a file descriptor that is readable once there is one.
    """

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.reader, self._writer = os.pipe()
        self._last = 0.0
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored under `nohup`
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if not self.heard or now - self._last > ECHO_SECONDS:
            self.heard.append(number)
            if len(self.heard) <= 2:  # more change nothing, and a pipe holds only so much
                os.write(self._writer, b".")
        self._last = now

    def wait(self, seconds: float) -> bool:
        """Sleep; whether it was cut short by a signal, or had been asked before."""
        return bool(select.select([self.reader], [], [], seconds)[0])
