"""Any runner: the same bytes from each, work for every worker, and a graph that none of them spoils."""

import os
from functools import partial
from pathlib import Path

from preprocess.graph import beam, pipeline_options, running
from preprocess.plan import Plan
from preprocess.records import Unit
from tests.preprocess.small import small_config

TWO_PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def _write_process(number: int, folder: str) -> int:
    (Path(folder) / str(number)).write_text(str(os.getpid()))
    return number


def test_the_local_runner_deals_the_units_out_evenly(tmp_path: Path) -> None:
    sizes = [5, 100, 1, 90, 7, 3, 80, 70]
    units = [Unit(n, "s", "text", "p", "n", size, "", 0, size) for n, size in enumerate(sizes)]
    plan = Plan(tmp_path, tmp_path, small_config(tmp_path, tmp_path / "corpus"), units)
    assert [sizes[n] for n in plan.tasks()] == sorted(sizes, reverse=True)
    (tmp_path / "done").mkdir()
    with running(pipeline_options(TWO_PROCESSES), tmp_path) as pipeline:
        pipeline | beam.Create(plan.tasks()) | beam.Map(partial(_write_process, folder=str(tmp_path / "done")))
    loads: dict[str, int] = {}
    for number, size in enumerate(sizes):
        process = (tmp_path / "done" / str(number)).read_text()
        loads[process] = loads.get(process, 0) + size
    assert len(loads) == 2
    assert str(os.getpid()) not in loads
    assert max(loads.values()) <= 0.6 * sum(sizes)
