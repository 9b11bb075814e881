"""A worker process of Beam's local runner, started as `python -m preprocess.worker`: it says only what is wrong.

Ctrl-C reaches every process of a terminal; workers leave it to the command that started them, which ends them.
"""

import logging
import os
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_IGN)
logging.disable(logging.WARNING)  # while it is imported, Beam warns of Google clients, which are not used

from apache_beam.runners.worker import sdk_worker_main  # noqa: E402

logging.disable(logging.INFO)
logging.getLogger(sdk_worker_main.__name__).setLevel(logging.ERROR)  # warns of a folder that only containers have

if __name__ == "__main__":
    sdk_worker_main.main(sys.argv)
    sys.stdout.flush()
    os._exit(0)  # all is written and said; ending threads and freeing memory would take Python 0.4 s at each stage
