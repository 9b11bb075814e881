"""A worker process of Beam's local runner."""

import subprocess
import sys

LINGERING = """
import runpy, threading
from apache_beam.runners.worker import sdk_worker_main

def main(arguments):
    threading.Thread(target=threading.Event().wait).start()
    print("worked")

sdk_worker_main.main = main
runpy.run_module("preprocess.worker", run_name="__main__")
"""


def test_a_worker_ends_with_its_work() -> None:
    """Its threads would let it linger; this one does for ever."""
    ended = subprocess.run([sys.executable, "-c", LINGERING], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "worked\n"), ended.stderr
