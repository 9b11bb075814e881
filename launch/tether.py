"""A program whose children end with it: `python -m launch.tether PROGRAM ARGUMENT…`, the first process of its group.

The DeepSpeed launcher starts pdsh, and pdsh starts ssh; each goes on when the one before it is killed. Here a small
process looks on, and kills what is left of the group when the program has ended, in whatever way.
"""

import os
import select
import signal
import sys


def main(program: list[str]) -> None:
    """Become the program, after the process that looks on was made."""
    ends = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        poll = select.poll()
        poll.register(ends, select.POLLIN)
        poll.poll()
        os.killpg(0, signal.SIGKILL)
    os.execv(program[0], program)  # noqa: S606  (a list, and no shell)


if __name__ == "__main__":
    main(sys.argv[1:])
