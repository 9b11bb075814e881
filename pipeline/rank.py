"""One process of a run: its leash, its log, and how it ends. As the DeepSpeed launcher starts it:

    python -m pipeline.rank pipeline.train RUN/config.yaml

What it does is the module's `main(config) -> exit code`; with it come torch and DeepSpeed, which take seconds.
"""

import importlib
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from pipeline import leash
from pipeline.errors import RunError, UserError
from pipeline.watching import rank_log


def run(module: str, config: Path) -> int:
    """Do what the module does; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until it is heard, between steps, a stop signal ends the process
    if rank_log.supervised():
        leash.hold()
        if rank_log.supervisor_has_ended():
            return RunError.exit_code
        try:
            rank_log.open_log()
        except OSError as error:  # then nobody can be told but who looks at the terminal
            print(f"kilobatch: {error.filename}: {error.strerror}", file=sys.stderr, flush=True)
            return RunError.exit_code
    rank_log.note("start", pid=os.getpid(), host=socket.gethostname())
    try:
        main = importlib.import_module(module).main
    except Exception as error:
        return failed(error)
    rank_log.note("imported")
    return int(main(config))


def failed(error: Exception) -> int:
    """Say what is wrong, to the supervisor if there is one; the exit code that goes with it."""
    if rank_log.supervised():
        return rank_log.note_failure(error)
    if not isinstance(error, UserError | OSError):
        raise error
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # asked again
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the launcher's
    if os.environ["RANK"] != "0":
        time.sleep(60)  # the launcher kills all ranks once one ends: rank 0 meets the same error and speaks for all
    print(f"kilobatch: {error}", file=sys.stderr, flush=True)
    return error.exit_code if isinstance(error, UserError) else RunError.exit_code


def end_process(code: int) -> NoReturn:
    """Leave at once, with everything said: at stage 3 the interpreter's own exit aborts in one of a few runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end_process(run(sys.argv[1], Path(sys.argv[2])))
