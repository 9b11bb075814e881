"""A task that outlives its killed command, in a worker of a cluster, has no part in what the next run makes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.files import read_json
from preprocess import documents, manifest, sample, sink, stages, tokens
from preprocess import run as runs
from preprocess.config import CorpusConfig
from preprocess.plan import Plan
from preprocess.run import run
from tests.preprocess.small import prose, small_config, write_raw

# Dies by SIGKILL when the first shard is to be packed; what tasks there were, and the plan, are left for the test.
KILLED = """
import json, os, shutil, signal, sys
from pathlib import Path
from preprocess import documents, sample, sink, tokens
from preprocess.config import CorpusConfig
from preprocess.run import run

def remember(module, name):
    task, folder = getattr(module, name), Path(sys.argv[2])
    def remembered(first, work, *more):
        given = (first[0], list(first[1])) if name == "write_one_shard" else first
        (folder / f"{name}.json").write_text(json.dumps([given, work, *more]))
        if name == "write_one_shard":
            shutil.copy(Path(work) / "plan.json", folder)
            os.kill(os.getpid(), signal.SIGKILL)
        return task(first, work, *more)
    setattr(module, name, remembered)

remember(documents, "write_documents"), remember(sample, "write_sample")
remember(tokens, "write_tokens"), remember(sink, "write_one_shard")
run(CorpusConfig.model_validate_json(sys.argv[1]))
"""


def killed(config: CorpusConfig, folder: Path) -> tuple[dict[str, Any], Plan]:
    """The tasks of a run that was killed, and the plan that a task which goes on has in its memory."""
    folder.mkdir()
    command = [sys.executable, "-c", KILLED, config.model_dump_json(), str(folder)]
    assert subprocess.run(command, capture_output=True).returncode == -9
    tasks = {path.stem: json.loads(path.read_text()) for path in folder.glob("write_*.json")}
    return tasks, replace(Plan.load(str(folder)), work=Path(tasks["write_one_shard"][1]))


def before(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, happens: Callable[[], None]) -> None:
    then = getattr(module, name)

    def first(*arguments: Any) -> Any:
        happens()
        return then(*arguments)

    monkeypatch.setattr(module, name, first)


def test_tasks_that_outlive_their_killed_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(tmp_path / "raw")
    other = shutil.copytree(tmp_path / "raw", tmp_path / "other")
    for number in range(4):
        (other / "books" / f"book-{number}.txt").write_text(prose(700 + number), encoding="utf-8")
    wanted = small_config(other, tmp_path / "plain", seed=6)
    expected = read_json(run(wanted) / "manifest.json")["digest"]
    tasks, plan = killed(small_config(tmp_path / "raw", tmp_path / "corpus"), tmp_path / "killed")

    def go_on() -> None:
        group = tasks["write_one_shard"][0]
        for task in (
            lambda: documents.write_documents(*tasks["write_documents"]),
            lambda: sample.write_sample(*tasks["write_sample"]),
            lambda: tokens.write_tokens(*tasks["write_tokens"]),
            lambda: sink.write_one_shard(*tasks["write_one_shard"]),
            lambda: sink._write_one_shard(group[0], [sink.Place(*place) for place in group[1]], plan),  # had begun
        ):
            with suppress(Exception):  # it has to fail, or to do no harm
                task()

    for module, name in (
        (runs, "_check_documents"),
        (stages, "remove_unfinished"),
        (sink, "cut_shards"),
        (manifest, "verify_counts"),
        (runs, "_finish"),
    ):
        before(monkeypatch, module, name, go_on)
    corpus = run(wanted.model_copy(update={"output": tmp_path / "corpus"}))
    assert read_json(corpus / "manifest.json")["digest"] == expected
    go_on()
    assert read_json(corpus / "manifest.json")["digest"] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "killed", "other", "plain", "raw"]
