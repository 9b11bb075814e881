"""On a distributed engine: a real scheduler and real workers over TCP write the bytes of a single process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.files import TEMPORARY, read_json
from preprocess.run import run
from tests.preprocess.small import prose, small_config, write_raw

KILOBATCH = [sys.executable, "-m", "launch.cli", "preprocess"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder)
    for number in range(10, 40):  # enough for every worker, and for one to be killed before the end
        (folder / "books" / f"book-{number}.txt").write_text(prose(number, 400), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def expected(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest(run(small_config(raw, tmp_path_factory.mktemp("expected") / "corpus")))


def digest(corpus: Path) -> str:
    return str(read_json(corpus / "manifest.json")["digest"])


@contextmanager
def process(*arguments: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("ab") as log:
        started = subprocess.Popen([sys.executable, "-m", *arguments], cwd=folder, stdout=log, stderr=log)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler's address, and the processes of its workers, of one thread each."""
    file = folder / "scheduler.json"
    scheduler = ("distributed.cli.dask_scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard")
    with ExitStack() as stack:
        stack.enter_context(process(*scheduler, f"--scheduler-file={file}", folder=folder))
        while not file.exists():
            time.sleep(0.1)
        address = str(read_json(file)["address"])
        worker = ("distributed.cli.dask_worker", address, "--nthreads=1", "--no-nanny", "--no-dashboard")
        yield address, [stack.enter_context(process(*worker, folder=folder)) for _ in range(workers)]


def options(address: str) -> list[str]:
    return ["--runner=DaskRunner", f"--dask_client_address={address}"]


@pytest.mark.parametrize("workers", [2, 4])
def test_same_bytes_on_a_cluster(raw: Path, expected: str, tmp_path: Path, workers: int) -> None:
    with cluster(tmp_path, workers) as (address, _):
        assert digest(run(small_config(raw, tmp_path / "corpus"), options(address))) == expected
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))


def test_a_worker_is_killed_half_way(raw: Path, expected: str, tmp_path: Path) -> None:
    units = f"corpus.stages/{TEMPORARY}documents-*/documents/unit-*.json"
    with cluster(tmp_path, 2) as (address, workers), ThreadPoolExecutor(1) as pool:
        config = small_config(raw, tmp_path / "corpus")
        command = [*KILOBATCH, str(tmp_path / "corpus.yaml"), "--", *options(address)]
        (tmp_path / "corpus.yaml").write_text(config.model_dump_json())  # JSON is YAML
        running = pool.submit(subprocess.run, command, capture_output=True, text=True)
        while len(list(tmp_path.glob(units))) < 5 and not running.done():
            time.sleep(0.01)
        done = len(list(tmp_path.glob(units)))
        os.kill(workers[0].pid, signal.SIGKILL)
        assert done < 39, "it was killed too late to prove anything"
        result = running.result(timeout=240)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert digest(tmp_path / "corpus") == expected


def test_an_error_of_a_task_is_one_line_and_nobody_is_at_an_address(raw: Path, tmp_path: Path) -> None:
    broken = tmp_path / "raw"
    write_raw(broken)
    dump = broken / "wiki.xml.bz2"
    dump.write_bytes(dump.read_bytes()[:-20])
    with cluster(tmp_path, 1) as (address, _), pytest.raises(InputError, match=rf"^{dump}: truncated"):
        run(small_config(broken, tmp_path / "corpus"), options(address))
    with pytest.raises(InputError, match=r"^--dask_client_address: Timed out"):
        run(small_config(raw, tmp_path / "corpus"), [*options("tcp://127.0.0.1:9"), "--dask_connection_timeout=2"])
    assert not (tmp_path / "corpus").exists()
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))
