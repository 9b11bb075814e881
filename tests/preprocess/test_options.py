"""Beam's command line: what cannot write a corpus right is refused in one line, with reason and alternative."""

import shutil
from pathlib import Path

import pytest

from pipeline.errors import InputError
from preprocess.graph import beam, running
from preprocess.options import pipeline_options

PRISM = ["--runner=PrismRunner", f"--prism_location={__file__}"]  # any file: it is not started


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--direct_running_mode=multi_threading"], r"drops elements; accepted: in_memory, multi_processing$"),
        (["--direct_num_workers=2"], r"one worker; accepted with it: --direct_running_mode=multi_processing$"),
        (["--direct_running_mode=multi_processing", "--direct_num_workers=-1"], r"-1: expected a number of processes"),
        (["--streaming"], r"^--streaming: a corpus has an end"),
        (["--runner=DirectRunner"], r"it chooses another runner .*; accepted: FnApiRunner, "),
        (["--runner=BundleBasedDirectRunner"], r"it is Beam's former local runner.*; accepted: FnApiRunner, "),
        (["--runner=InteractiveRunner"], r"it keeps what passes through it.*; accepted: "),
        (["--runner=dask"], r"it is not known.*DaskRunner"),
        (["--runner=KafkaStreamsRunner"], r"it is not known to write the same bytes.*; accepted: "),
        (["--runner=some.module.FnApiRunner"], r"it is not known to write the same bytes.*; accepted: "),
        (["--runner=PrismRunner", "--prism_location=/no/prism"], r"no file '/no/prism'; give .* \(go install "),
        ([*PRISM, "--environment_type=DOCKER"], r"no image holds Kilobatch; accepted: LOOPBACK, EXTERNAL"),
        ([*PRISM, "--environment_type=EXTERNAL"], r"needs --environment_config=HOST:PORT of a worker pool"),
        (
            [*PRISM, "--environment_type=EXTERNAL", "--environment_config=localhost:9"],
            r"no worker pool there \(.*refus",
        ),
        ([*PRISM, "--environment_type=EXTERNAL", "--environment_config=nonsense"], r"no worker pool there"),
        (["--runner=FlinkRunner", "--environment_type=EXTERNAL"], r"needs --environment_config"),
        (["--runer=FnApiRunner"], r"--runer: unknown to Beam; did you mean '--runner'\?"),
    ],
)
def test_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        pipeline_options(arguments)
    assert "\n" not in str(caught.value)


def test_prism_is_found_on_the_path_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"^--prism_location: not on the PATH; give the program's path"):
        pipeline_options(["--runner=PrismRunner"])
    shutil.copy("/bin/true", tmp_path / "prism")
    options = pipeline_options(["--runner=PrismRunner"]).get_all_options()
    assert options["prism_location"] == str(tmp_path / "prism")
    assert options["prism_log_level"] == "warn"


@pytest.mark.parametrize("other", ["/bin/false", __file__])
def test_another_program_than_prism(tmp_path: Path, other: str) -> None:
    shutil.copy(other, tmp_path / "other")
    options = pipeline_options(["--runner=PrismRunner", f"--prism_location={tmp_path}/other"])
    with (
        pytest.raises(
            InputError, match=r"^--prism_location: /\S+/other does not start; is it Prism \(go install \S+\)\?$"
        ),
        running(options, tmp_path) as pipeline,
    ):
        pipeline | beam.Create([1])


@pytest.mark.parametrize("name", ["flink", "spark"])
def test_a_job_server_that_is_not_there(tmp_path: Path, name: str) -> None:
    options = pipeline_options([f"--runner={name.capitalize()}Runner", f"--{name}_job_server_jar=/no/server.jar"])
    with (
        pytest.raises(InputError, match=f"Runner: Beam has not found .*; give --{name}_job_server_jar=FILE"),
        running(options, tmp_path) as pipeline,
    ):
        pipeline | beam.Create([1])


def test_accepted() -> None:
    for arguments in (
        [],
        ["--runner=fnapi"],
        ["--runner=DataflowRunner"],
        ["--direct_running_mode=multi_processing", "--direct_num_workers=0"],
        PRISM,
    ):
        pipeline_options(arguments)
