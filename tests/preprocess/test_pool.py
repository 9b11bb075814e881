"""A pool whose workers are of the wrong Python is one line, where Prism would wait for ever."""

import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from preprocess import pool
from preprocess.options import pipeline_options
from preprocess.run import run
from tests.preprocess.processes import needs_prism, worker_pool
from tests.preprocess.small import small_config, write_raw

WITHOUT = f"""exec {sys.executable} -c "import sys; sys.modules['preprocess'] = None; $2" """


def programs(folder: Path, python: str) -> Path:
    """A folder with a `python` that is this shell script."""
    (folder / "python").write_text(f"#!/bin/sh\n{python}\n")
    (folder / "python").chmod(0o755)
    return folder


def test_a_pool_that_starts_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE", 5)  # for nobody comes
    with worker_pool(tmp_path, programs(tmp_path, "exit 1")) as options:
        given = [option for option in options if not option.startswith("--prism_location")]
        with pytest.raises(
            InputError, match=r"^--environment_config=localhost:\d+: the pool starts no worker \(none came"
        ):
            pipeline_options([*given, f"--prism_location={__file__}"])


def test_what_is_no_pool(tmp_path: Path) -> None:
    with worker_pool(tmp_path) as options:
        address = options[-1].partition("=")[2]
        pool.check(address)
    with pytest.raises(InputError, match=rf"^--environment_config={address}: no worker pool there \(.*\)$"):
        pool.check(address)


@needs_prism
def test_a_pool_whose_python_has_no_kilobatch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_raw(tmp_path / "raw")
    with (
        worker_pool(tmp_path, programs(tmp_path, WITHOUT)) as options,
        pytest.raises(InputError, match=r"^a worker has another Kilobatch, or none \(No module named 'preprocess\b"),
    ):
        run(small_config(tmp_path / "raw", tmp_path / "corpus"), options)
    assert "Traceback" not in capfd.readouterr().err
