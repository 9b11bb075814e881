"""How a Beam pipeline is run here: which runner, quietly, and its end awaited."""

import argparse
import difflib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from pipeline.errors import InputError

logging.disable(logging.WARNING)  # while it is imported, Beam warns of Google clients, which are not used
import apache_beam as beam  # noqa: E402
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions  # noqa: E402
from apache_beam.runners.runner import create_runner  # noqa: E402

logging.disable(logging.NOTSET)

__all__ = ["PipelineOptions", "beam", "has_no_workers", "pipeline_options", "running"]


# worker processes of the local runner are not given the pipeline's options, but read the file that this names
_WORKER_OPTIONS = "PIPELINE_OPTIONS_FILE"
_WORKER_LOGGING = {
    "default_sdk_harness_log_level": "WARNING",
    "sdk_harness_log_level_overrides": {"__main__": "ERROR"},  # warns of a folder that only containers have
}


def _check(arguments: Sequence[str], parser: argparse.ArgumentParser) -> None:
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
        from apache_beam.runners.dask import dask_runner
    except ImportError as error:
        raise InputError(f"--runner=DaskRunner: {error}; install kilobatch[dask]") from None
    sizes = (
        []
        if any(word.startswith("--dask_") and "partition" in word for word in arguments)
        else ["--dask_partition_size=1"]
    )
    return [
        *sizes,
        *(re.sub(r"^(--runner=)?DaskRunner$", rf"\g<1>{dask_runner.__name__}.DaskRunner", word) for word in arguments),
    ]


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options from a command line; the runner is FnApiRunner unless another is named.

    `DirectRunner`, Beam's own default, would first try to download another runner.

    Raises:
        InputError: no such option, value or runner, or a mode of the local runner that loses data.
    """
    if any("DaskRunner" in argument for argument in arguments):
        arguments = _with_dask(arguments)
    options = PipelineOptions(["--runner=FnApiRunner", *arguments])
    options.get_all_options(add_extra_args_fn=partial(_check, arguments))
    try:
        create_runner(options.view_as(StandardOptions).runner)
    except ValueError as error:
        raise InputError(f"--runner: {error}") from None
    if options.view_as(DirectOptions).direct_running_mode == "multi_threading":
        raise InputError(
            "--direct_running_mode=multi_threading: found multi_threading, in which Beam's local runner drops elements;"
            " accepted: in_memory, multi_processing"
        )
    return options


def has_no_workers(options: PipelineOptions) -> bool:
    """Whether the pipeline runs within this process."""
    return bool(options.view_as(DirectOptions).direct_running_mode == "in_memory")


def _close(pipeline: beam.Pipeline) -> None:
    """Let Dask's scheduler forget the pipeline: its client would wait for a vanished one for ever."""
    client = getattr(getattr(pipeline, "result", None), "client", None)
    if client is not None:
        client.close()


@contextmanager
def running(options: PipelineOptions, work: Path) -> Iterator[beam.Pipeline]:
    """A pipeline that is run when the block ends, with Beam's logging from warnings on, here and in its workers."""
    worker_options = work / "beam-worker-options.json"
    worker_options.write_text(json.dumps(_WORKER_LOGGING), encoding="ascii")
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.WARNING)
    before = os.environ.get(_WORKER_OPTIONS)
    os.environ.setdefault(_WORKER_OPTIONS, str(worker_options))
    temporary, tempfile.tempdir = tempfile.tempdir, str(work)  # a pipeline makes a folder there, and may leave it
    try:
        with ExitStack() as closing, beam.Pipeline(options=options) as pipeline:
            closing.callback(_close, pipeline)
            yield pipeline
    except OSError as error:
        if error.errno is not None or "DaskRunner" not in options.view_as(StandardOptions).runner:
            raise
        raise InputError(f"--dask_client_address: {' '.join(str(error).split())}") from None
    finally:
        tempfile.tempdir = temporary
        logger.setLevel(level)
        if before is None:
            del os.environ[_WORKER_OPTIONS]
