"""Real processes around a run: the command itself, a Dask cluster, a pool of Beam's workers."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.files import read_json
from preprocess.config import CorpusConfig

ROOT = Path(__file__).parents[2]
PRISM = os.environ.get("PRISM") or shutil.which("prism")
needs_prism = pytest.mark.skipif(not PRISM, reason="Prism is neither on the PATH nor named by PRISM")


@contextmanager
def process(
    *arguments: str, folder: Path, code: Path = ROOT, programs: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python module as a process, with its output in `folder`/log.

    Args:
        code: where it imports Kilobatch from.
        programs: a folder that is first on its PATH; else that of this Python.
    """
    path = f"{programs or Path(sys.executable).parent}:{os.environ['PATH']}"  # a worker pool starts `python`
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", *arguments]
        environment = {**os.environ, "PATH": path, "PYTHONPATH": f"{code}:{ROOT}"}
        started = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=code)
    try:
        yield started
    finally:
        started.terminate()
        started.wait()


@contextmanager
def cluster(folder: Path, workers: int, code: Path = ROOT) -> Iterator[tuple[list[str], list[subprocess.Popen[bytes]]]]:
    """Options to run on a Dask scheduler, and the processes of its workers, of one thread each."""
    file = folder / "scheduler.json"
    scheduler = ("distributed.cli.dask_scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard")
    with ExitStack() as stack:
        stack.enter_context(process(*scheduler, f"--scheduler-file={file}", folder=folder))
        while not file.exists():
            time.sleep(0.1)
        address = str(read_json(file)["address"])
        worker = ("distributed.cli.dask_worker", address, "--nthreads=1", "--no-nanny", "--no-dashboard")
        started = [stack.enter_context(process(*worker, folder=folder, code=code)) for _ in range(workers)]
        yield ["--runner=DaskRunner", f"--dask_client_address={address}"], started


@contextmanager
def worker_pool(folder: Path, programs: Path | None = None) -> Iterator[list[str]]:
    """Options to run on Prism with the workers of a pool that is another process; see `process` for `programs`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pool = ("apache_beam.runners.worker.worker_pool_main", f"--service_port={port}")
    with process(*pool, folder=folder, programs=programs) as started:
        while True:
            assert started.poll() is None, (folder / "log").read_text()
            try:
                socket.create_connection(("localhost", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield [*prism("EXTERNAL"), f"--environment_config=localhost:{port}"]


def prism(environment: str) -> list[str]:
    return ["--runner=PrismRunner", f"--prism_location={PRISM}", f"--environment_type={environment}"]


def command(config: CorpusConfig, folder: Path, options: list[str]) -> list[str]:
    """The command line of a run; its configuration is written into the folder."""
    file = folder / "corpus.yaml"
    file.write_text(config.model_dump_json())  # JSON is YAML
    return [sys.executable, "-m", "launch.cli", "preprocess", str(file), "--", *options]
