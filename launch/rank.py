"""One rank of a run on many hosts: `pipeline.rank` in the care of a small process, since its command is elsewhere.

    python -m launch.rank RUN/config.yaml

The leash is standard input: ssh's channel, which ends when the command that started the run does, in whatever way, or
when ssh finds its connection lost. The rank is then asked to save and end, and is killed if it has not after a grace:
no file has to be seen, no second connection made, and a killed command needs do nothing. What the rank says is handed
on as long as somebody reads it. A rank that was killed by a signal cannot tell; that is noted here.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from launch.host import STOP
from pipeline.errors import RunError, Stopped
from pipeline.watching import rank_log

SOONER_SECONDS = 2.0  # a peer may tell that its connection has ended before this process is awake
GRACE_SECONDS = 120.0  # for a step and its checkpoint; the other ranks may be gone, and the save never end


def main(config: Path) -> None:
    """Fork; the child is the rank, and this process ends like it."""
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child == 0:
        _train(config, [writer for _, writer in pipes])
    for _, writer in pipes:
        os.close(writer)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, which the rank gets too
    stopping = Stopping(child)
    signal.signal(STOP, stopping.ask)
    look_after(child, {reader: output for output, (reader, _) in enumerate(pipes, 1)}, stopping.ask)
    end_like(os.waitpid(child, 0)[1])


class Stopping:
    """Asks a rank to save and end, once: a second word would end it before it has saved."""

    def __init__(self, child: int) -> None:
        self.child, self.asked = child, False

    def ask(self, *_: object) -> None:
        if not self.asked:
            self.asked = True
            os.kill(self.child, STOP)


def end_like(status: int) -> NoReturn:
    """End as a process did that `waitpid` tells of, also by its signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        _note_death(number)
        with suppress(OSError):  # SIGKILL has no handler to take away
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def _train(config: Path, outputs: list[int]) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for output, writer in enumerate(outputs, 1):
        os.dup2(writer, output)
    from pipeline.rank import end_process, run

    end_process(run("pipeline.train", config))


def look_after(
    child: int, pipes: dict[int, int], ask: Callable[[], None], leash: int = 0, grace: float = GRACE_SECONDS
) -> None:
    """Until the child has ended: hand on what it says, and end it when the leash does.

    Args:
        pipes: a descriptor to read → the one to write to. ask: asks the child to end.
    """
    ended, poll = os.pidfd_open(child), select.poll()
    for descriptor in (ended, leash, *pipes):
        poll.register(descriptor, select.POLLIN | select.POLLRDHUP)
    deadline = float("inf")
    while True:
        left = None if deadline == float("inf") else max(0, deadline - time.monotonic()) * 1000
        ready = {descriptor for descriptor, _ in poll.poll(left)}
        if leash in ready and not os.read(leash, 4096):
            poll.unregister(leash)
            ask()
            deadline = time.monotonic() + grace
        for pipe in ready & pipes.keys():
            if not _hand_on(pipe, pipes[pipe]):
                poll.unregister(pipe)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)  # once: it may hang in the kernel for as long as a file system is away
            deadline = float("inf")
        if ended in ready and not ready & pipes.keys():
            return


def _hand_on(source: int, target: int) -> bool:
    """Whether there was something, rather than the end."""
    data = left = os.read(source, 1 << 16)
    with suppress(OSError):  # nobody reads it any more
        while left:
            left = left[os.write(target, left) :]
    return bool(data)


def _note_death(number: int) -> None:
    """What the rank could not tell; nothing of SIGTERM, by which the launcher ends those beside one that has failed."""
    if number == STOP:
        stopped = "stopped before the first step of this start; run it again to go on"
        rank_log.note("end", code=Stopped.exit_code, type="Stopped", message=stopped, users=True, restart=False)
    elif number != signal.SIGTERM:
        killed = f"rank {os.environ['RANK']} was killed by signal {number} ({signal.strsignal(number)})"
        when = time.time() - SOONER_SECONDS
        rank_log.note(
            "end", code=RunError.exit_code, type="RunError", message=killed, users=True, restart=True, time=when
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
