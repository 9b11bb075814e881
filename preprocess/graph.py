"""How a Beam pipeline is run here: quietly, its end awaited, and nothing of it left."""

import copy
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.leash import leashed

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # it would tell of every connection that ends, here and in workers
logging.disable(logging.WARNING)  # while it is imported, Beam warns of Google clients, which are not used
import apache_beam as beam  # noqa: E402
from apache_beam.io.filesystems import FileSystems  # noqa: E402
from apache_beam.options.pipeline_options import (  # noqa: E402
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    StandardOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from apache_beam.runners.portability.prism_runner import PrismJobServer, PrismRunner  # noqa: E402
from apache_beam.runners.runner import create_runner  # noqa: E402

from preprocess.forked import ForkedEnvironment  # noqa: E402

logging.disable(logging.NOTSET)

__all__ = [
    "PRISM",
    "DirectOptions",
    "FileSystems",
    "PipelineOptions",
    "PortableOptions",
    "PrismRunnerOptions",
    "StandardOptions",
    "beam",
    "running",
]

PRISM = "go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"
_OF_A_WORKER = re.compile(r"(?:^|WorkerError: )(worker .*?)(?: \[while running|\n|$)")  # the line of a WorkerError
_NO_JOB_SERVER = re.compile(r"^Unable to (fetch remote job server jar|parse jar URL)")
_NOT_THERE = re.compile(r"(?:ModuleNotFoundError: |ImportError: |AttributeError: (?=Can't get attribute))([^\n]+)")
_QUIET = {
    "apache_beam": logging.WARNING,
    "apache_beam.utils.subprocess_server": logging.CRITICAL,  # tells that it starts Prism, or does not
}


class _PrismServer(PrismJobServer):  # type: ignore[misc]
    """Ends with this process, also where that is killed −9."""

    def start(self) -> Any:
        service = super().start()
        logging.getLogger(type(self).__name__).addFilter(lambda record: record.name != "PrismRunner")  # raised anyway
        return service

    def subprocess_cmd_and_endpoint(self) -> tuple[list[str], str]:
        program, endpoint = super().subprocess_cmd_and_endpoint()
        return leashed([str(word) for word in program]), endpoint


class _Prism(PrismRunner):  # type: ignore[misc]
    """Beam's own would let Prism live, and keep its folder, until Python exits."""

    def default_job_server(self, options: PipelineOptions) -> PrismJobServer:
        self.server = _PrismServer(options)
        return self.server


@contextmanager
def _this_python_first() -> Iterator[None]:
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _runner(options: PipelineOptions, closing: ExitStack) -> Any:
    """The runner that the options name."""
    runner = create_runner(options.view_as(StandardOptions).runner)
    direct = options.view_as(DirectOptions)
    if isinstance(runner, PrismRunner):
        runner = _Prism()
        closing.enter_context(_this_python_first())  # a worker process of LOOPBACK is the first `python` on the PATH
        closing.callback(lambda: hasattr(runner, "server") and runner.server.stop())
    elif direct.direct_running_mode == "multi_processing":
        direct.direct_running_mode = None  # which would start workers that are slow to start, and not quiet
        runner = FnApiRunner(default_environment=ForkedEnvironment.from_command_string(""))
    return runner


def _elsewhere(options: PipelineOptions) -> bool:
    """Whether workers are of a Python that this command did not start."""
    dask = "DaskRunner" in options.view_as(StandardOptions).runner
    return dask or options.view_as(PortableOptions).environment_type == "EXTERNAL"


def _close(pipeline: beam.Pipeline) -> None:
    """Let Dask's scheduler forget the pipeline: its client would wait for a vanished one for ever."""
    client = getattr(getattr(pipeline, "result", None), "client", None)
    if client is not None:
        client.close()


def _is_not_raised(record: logging.LogRecord) -> bool:
    """Beam logs a job's error, with the traceback of the task, and raises it too."""
    return record.funcName != "read_messages" or record.levelno < logging.ERROR


@contextmanager
def running(options: PipelineOptions, work: Path) -> Iterator[beam.Pipeline]:
    """A pipeline that is run when the block ends, with Beam's logging from warnings on, here and in its workers."""
    options = copy.deepcopy(options)
    loggers = {logging.getLogger(name): level for name, level in _QUIET.items()}
    levels = {logger: logger.level for logger in loggers}
    for logger, level in loggers.items():
        logger.setLevel(level)
    logging.getLogger().addFilter(_is_not_raised)
    temporary, tempfile.tempdir = tempfile.tempdir, str(work)  # a pipeline makes a folder there, and may leave it
    try:
        with ExitStack() as closing, beam.Pipeline(_runner(options, closing), options) as pipeline:
            closing.callback(_close, pipeline)
            yield pipeline
    except OSError as error:
        if error.errno is not None or "DaskRunner" not in options.view_as(StandardOptions).runner:
            raise
        raise InputError(f"--dask_client_address: {' '.join(str(error).split())}") from None
    except Exception as error:
        found = _OF_A_WORKER.search(str(error))
        if found:
            raise InputError(found[1]) from None
        absent = _NOT_THERE.search(str(error)) if _elsewhere(options) else None
        if absent:
            raise InputError(f"a worker has another Kilobatch, or none ({absent[1]}); install the same there") from None
        if _NO_JOB_SERVER.search(str(error)):
            runner = options.view_as(StandardOptions).runner
            jar = f"--{runner.removesuffix('Runner').lower()}_job_server_jar=FILE"
            raise InputError(f"--runner={runner}: Beam has not found the jar of its job server; give {jar}") from None
        if "Service failed to start up" in str(error):
            location = options.view_as(PrismRunnerOptions).prism_location
            raise InputError(f"--prism_location: {location} does not start; is it Prism ({PRISM})?") from None
        raise
    finally:
        logging.getLogger().removeFilter(_is_not_raised)
        tempfile.tempdir = temporary
        for logger, level in levels.items():
            logger.setLevel(level)
