"""A worker process of Beam's local runner, which `preprocess.forks` forks: it says only what is wrong.

Ctrl-C, which it ignores, is left to the command that started it, which ends it.
"""

import json
import logging
import os
import socket
import sys
import traceback

from preprocess import graph  # noqa: F401  (before any other of Beam's modules: it has them imported quietly)
from preprocess.forks import DONE

logging.disable(logging.WARNING)
from apache_beam.runners.worker import sdk_worker_main  # noqa: E402

logging.disable(logging.NOTSET)


def main(descriptor: int) -> None:
    """Become the worker that a socket tells of, and end with its work."""
    told = socket.socket(fileno=descriptor)
    try:
        with told.makefile("rb") as file:
            said = json.load(file)
        os.chdir(said["folder"])
        os.environ.clear()
        os.environ.update(said["environment"])
        logging.disable(logging.INFO)
        # it warns of a folder that only containers have
        logging.getLogger(sdk_worker_main.__name__).setLevel(logging.ERROR)
        sdk_worker_main.main(sys.argv)
        sys.stdout.flush()
        told.sendall(DONE)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)  # all is written and said; ending threads and freeing memory would take Python 0.4 s at each stage
