"""Any runner: the same bytes from each, and work for every worker."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.files import TEMPORARY, read_json
from preprocess.config import CorpusConfig
from preprocess.graph import beam, running
from preprocess.options import pipeline_options
from preprocess.plan import Plan
from preprocess.records import Unit
from preprocess.run import run
from tests.preprocess.processes import ROOT, cluster, command, needs_prism, prism, worker_pool
from tests.preprocess.small import prose, small_config, write_raw


def processes(workers: int) -> list[str]:
    return ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder)
    for number in range(10, 18):  # enough for every worker, and for one to be killed before the end
        text = prose(number, 200)
        (folder / "books" / f"book-{number}.txt").write_text(text, encoding="utf-8")
        if number % 4 == 0:  # near-duplicates, of which some are found through others
            words = text.split(" ")
            for copy in range(3):
                words[7 + 60 * copy] = "changed"
                (folder / "books" / f"copy-{number}-{copy}.txt").write_text(" ".join(words), encoding="utf-8")
    return folder


def config(raw: Path, output: Path) -> CorpusConfig:
    """One that goes through every stage."""
    return small_config(raw, output, dedup={"near": {"ngram": 5}}, packing="segment-pair")


@pytest.fixture(scope="module")
def expected(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    corpus = run(config(raw, tmp_path_factory.mktemp("expected") / "corpus"))
    manifest = read_json(corpus / "manifest.json")
    assert manifest["counts"]["near_duplicates"] >= 3, "the stage has work"
    return str(manifest["digest"])


@contextmanager
def runner(name: str, folder: Path) -> Iterator[list[str]]:
    kind, _, workers = name.partition(" ")
    if kind == "dask":
        with cluster(folder, int(workers)) as (options, _):
            yield options
    elif kind == "prism-external":
        with worker_pool(folder) as options:
            yield options
    elif kind == "prism-processes":
        yield [*prism("LOOPBACK"), "--experiments=use_loopback_process_worker"]
    else:
        yield {"memory": [], "processes": processes(int(workers or 1)), "prism": prism("LOOPBACK")}[kind]


@pytest.mark.parametrize(
    "name",
    [
        "memory",
        "processes 1",
        "processes 2",
        "processes 4",
        "dask 1",
        "dask 2",
        "dask 4",
        *(pytest.param(name, marks=needs_prism) for name in ("prism", "prism-processes", "prism-external")),
    ],
)
def test_same_bytes(raw: Path, expected: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = random.Random(name)
    monkeypatch.setattr(Plan, "tasks", lambda plan: order.sample(range(len(plan.units)), len(plan.units)))
    (tmp_path / "log").mkdir()
    with runner(name, tmp_path / "log") as options:
        corpus = run(config(raw, tmp_path / "corpus"), options)
    assert read_json(corpus / "manifest.json")["digest"] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "log"]


def test_same_bytes_when_a_dask_worker_is_killed_half_way(raw: Path, expected: str, tmp_path: Path) -> None:
    units = f"corpus.stages/{TEMPORARY}documents-*/*/documents/unit-*.json"
    with cluster(tmp_path, 2) as (options, workers), ThreadPoolExecutor(1) as pool:
        arguments = command(config(raw, tmp_path / "corpus"), tmp_path, options)
        started = pool.submit(subprocess.run, arguments, capture_output=True, text=True)
        while len(list(tmp_path.glob(units))) < 3 and not started.done():
            time.sleep(0.01)
        done = len(list(tmp_path.glob(units)))
        os.kill(workers[0].pid, signal.SIGKILL)
        assert done < 15, "it was killed too late to prove anything"
        result = started.result(timeout=240)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert read_json(tmp_path / "corpus" / "manifest.json")["digest"] == expected


def test_an_error_of_a_task_is_one_line_and_nobody_is_at_an_address(raw: Path, tmp_path: Path) -> None:
    broken = tmp_path / "raw"
    write_raw(broken)
    dump = broken / "wiki.xml.bz2"
    dump.write_bytes(dump.read_bytes()[:-20])
    with cluster(tmp_path, 1) as (options, _), pytest.raises(InputError, match=rf"^{dump}: truncated"):
        run(small_config(broken, tmp_path / "corpus"), options)
    nobody = ["--runner=DaskRunner", "--dask_client_address=tcp://127.0.0.1:9", "--dask_connection_timeout=2"]
    with pytest.raises(InputError, match=r"^--dask_client_address: Timed out"):
        run(small_config(raw, tmp_path / "corpus"), nobody)
    assert not (tmp_path / "corpus").exists()
    assert not list(tmp_path.glob(f"{TEMPORARY}*"))


def test_a_worker_that_cannot_do_it_right_is_named(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "preprocess", other / "preprocess")
    with (other / "preprocess" / "__init__.py").open("a") as file:
        file.write("# of another version\n")
    with cluster(tmp_path, 1, other) as (options, _):
        with pytest.raises(
            InputError, match=r"^worker \S+: kilobatch's code: found \w{16}, the command has \w{16}; \D+$"
        ):
            run(config(raw, tmp_path / "corpus"), options)
        monkeypatch.setattr(Plan, "save", lambda plan: None)  # as if the folder were not mounted there
        with pytest.raises(InputError, match=r"^worker \S+: does not see \S+: all workers need .* the same path$"):
            run(config(raw, tmp_path / "corpus"), options)
    assert not (tmp_path / "corpus").exists()


def _write_process(number: int, folder: str) -> int:
    (Path(folder) / str(number)).write_text(str(os.getpid()))
    return number


def test_the_local_runner_deals_the_units_out_evenly(tmp_path: Path) -> None:
    sizes = [5, 100, 1, 90, 7, 3, 80, 70]
    units = [Unit(n, "s", "text", "p", "n", size, "", 0, size) for n, size in enumerate(sizes)]
    plan = Plan(tmp_path, tmp_path, small_config(tmp_path, tmp_path / "corpus"), units)
    assert [sizes[n] for n in plan.tasks()] == sorted(sizes, reverse=True)
    (tmp_path / "done").mkdir()
    with running(pipeline_options(processes(2)), tmp_path) as pipeline:
        pipeline | beam.Create(plan.tasks()) | beam.Map(partial(_write_process, folder=str(tmp_path / "done")))
    loads: dict[str, int] = {}
    for number, size in enumerate(sizes):
        process = (tmp_path / "done" / str(number)).read_text()
        loads[process] = loads.get(process, 0) + size
    assert len(loads) == 2
    assert str(os.getpid()) not in loads
    assert max(loads.values()) <= 0.6 * sum(sizes)
