"""How a Beam pipeline is run here: which runner, quietly, and its end awaited."""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InputError

logging.disable(logging.WARNING)  # while it is imported, Beam warns of Google clients, which are not used
import apache_beam as beam  # noqa: E402
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions  # noqa: E402
from apache_beam.runners.runner import create_runner  # noqa: E402

logging.disable(logging.NOTSET)

__all__ = ["PipelineOptions", "beam", "pipeline_options", "running"]


# worker processes of the local runner are not given the pipeline's options, but read the file that this names
_WORKER_OPTIONS = "PIPELINE_OPTIONS_FILE"
_WORKER_LOGGING = {
    "default_sdk_harness_log_level": "WARNING",
    "sdk_harness_log_level_overrides": {"__main__": "ERROR"},  # warns of a folder that only containers have
}


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options from a command line; the runner is FnApiRunner unless another is named.

    `DirectRunner`, Beam's own default, would first try to download another runner.

    Raises:
        InputError: no such runner, or a mode of the local runner that loses data.
    """
    options = PipelineOptions(["--runner=FnApiRunner", *arguments])
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
    try:
        with beam.Pipeline(options=options) as pipeline:
            yield pipeline
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ[_WORKER_OPTIONS]
