"""Beam's command line: what writes a corpus right is accepted, anything else refused with the reason."""

import argparse
import difflib
import re
import shutil
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from pipeline.errors import InputError
from preprocess.graph import (
    PRISM,
    DirectOptions,
    FileSystems,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    StandardOptions,
)

_RUNNERS = (
    "FnApiRunner",
    "PrismRunner",
    "DaskRunner",
    "FlinkRunner",
    "SparkRunner",
    "DataflowRunner",
    "PortableRunner",
)
DASK = "apache_beam.runners.dask.dask_runner."  # Beam does not know this one by its short name
_POOL = "python -m apache_beam.runners.worker.worker_pool_main --service_port="
_SECONDS = 5  # within which a worker pool has to answer


def _check_names(arguments: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Parse with Beam's own parser, which would leave unknown options out, and exit after a page about a wrong value.

    Raises:
        InputError: an option that Beam does not know, or a value that it does not take.
    """

    def refuse(message: str) -> NoReturn:
        raise InputError(f"Beam's options: {message}")

    parser.error = refuse  # type: ignore[method-assign]
    _, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        name = unknown[0].partition("=")[0]
        known = [option for action in parser._actions for option in action.option_strings]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "accepted: key=value, and Beam's pipeline options"
        raise InputError(f"{name}: unknown to Beam; {hint}")


def _with_dask(arguments: Sequence[str]) -> list[str]:
    """The arguments with the name by which Beam finds DaskRunner; its options are known once its module is imported.

    A partition is one unit unless another size is given: by default it is 128, and few workers would have work.

    Raises:
        InputError: the packages that it needs are not installed.
    """
    try:
        from apache_beam.runners.dask import dask_runner  # noqa: F401
    except ImportError as error:
        raise InputError(f"--runner=DaskRunner: {error}; install kilobatch[dask]") from None
    sizes = (
        []
        if any(word.startswith("--dask_") and "partition" in word for word in arguments)
        else ["--dask_partition_size=1"]
    )
    return [
        *sizes,
        *(re.sub(r"^(--runner=)?DaskRunner$", rf"\g<1>{DASK}DaskRunner", word) for word in arguments),
    ]


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options from a command line; the runner is FnApiRunner unless another is named.

    Raises:
        InputError: no such option, value or runner, or one with which a corpus would not be written right.
    """
    if any("DaskRunner" in argument for argument in arguments):
        arguments = _with_dask(arguments)
    if any("PrismRunner" in argument for argument in arguments):
        arguments = ["--prism_log_level=warn", *arguments]
    options = PipelineOptions(["--runner=FnApiRunner", *arguments])
    options.get_all_options(add_extra_args_fn=partial(_check_names, arguments))
    standard = options.view_as(StandardOptions)
    runner = _runner(standard.runner)
    if standard.streaming:
        raise InputError("--streaming: a corpus has an end, and its groups are whole only there; leave it out")
    if runner == "FnApiRunner":
        _check_local(options.view_as(DirectOptions))
    _check_environment(options.view_as(PortableOptions), runner)
    if runner == "PrismRunner":
        _find_prism(options)
    FileSystems.set_options(options)  # inputs are listed before there is a pipeline, which would do it
    return options


def _runner(name: str) -> str:
    """The class of a runner, by any name that Beam takes for it.

    Raises:
        InputError: one that is not known to write the same bytes as the others.
    """
    reasons = {
        "directrunner": "chooses another runner by itself, and may download it",
        "switchingdirectrunner": "chooses another runner by itself, and may download it",
        "bundlebaseddirectrunner": "is Beam's former local runner, with threads of one process only",
        "interactiverunner": "keeps what passes through it, for notebooks",
    }
    if name == f"{DASK}DaskRunner":
        return "DaskRunner"
    short = name.lower()
    known = {runner.lower(): runner for runner in _RUNNERS if runner != "DaskRunner"}
    for found in (short, f"{short}runner"):
        if found in known:
            return known[found]
    reason = reasons.get(short, reasons.get(f"{short}runner", "is not known to write the same bytes as the others"))
    raise InputError(f"--runner={name}: it {reason}; accepted: {', '.join(_RUNNERS)}")


def _check_local(options: DirectOptions) -> None:
    """Refuse modes of the local runner that lose data, or do not do what they say."""
    mode, workers = options.direct_running_mode, options.direct_num_workers
    if mode == "multi_threading":
        raise InputError(
            "--direct_running_mode=multi_threading: found multi_threading, in which Beam's local runner drops elements;"
            " accepted: in_memory, multi_processing"
        )
    if mode == "in_memory" and workers != 1:
        raise InputError(
            f"--direct_num_workers={workers}: in_memory is one process with one worker;"
            " accepted with it: --direct_running_mode=multi_processing"
        )
    if workers < 0:
        raise InputError(f"--direct_num_workers={workers}: expected a number of processes, or 0 for all cores")


def _check_environment(options: PortableOptions, runner: str) -> None:
    """Refuse a worker pool without an address, or, where this machine has to reach it, that does not answer.

    Prism would wait for its workers for ever.
    """
    kind, address = options.environment_type, options.environment_config
    if kind == "DOCKER" and runner == "PrismRunner":
        raise InputError("--environment_type=DOCKER: no image holds Kilobatch; accepted: LOOPBACK, EXTERNAL")
    if kind == "EXTERNAL" and not (address or options.environment_options):
        raise InputError(
            f"--environment_type=EXTERNAL: needs --environment_config=HOST:PORT of a worker pool ({_POOL}PORT)"
        )
    if kind != "EXTERNAL" or not address or runner != "PrismRunner":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _SECONDS).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"--environment_config={address}: no worker pool there ({error}); start one: {_POOL}PORT, with that Python"
            " first on its PATH in which Kilobatch is installed"
        ) from None
    from preprocess import pool  # imports Beam, which is quiet once preprocess.graph has imported it

    pool.check(address)


def _find_prism(options: PipelineOptions) -> None:
    """Take Prism from the PATH where no location is given: Beam would download it."""
    prism = options.view_as(PrismRunnerOptions)
    location = prism.prism_location or shutil.which("prism")
    if not location or not Path(location).is_file():
        found = f"no file {location!r}" if location else "not on the PATH"
        raise InputError(f"--prism_location: {found}; give the program's path ({PRISM})")
    prism.prism_location = location
