"""Beam's local runner with worker processes that `preprocess.forks` forks."""

import os
import socket
import threading
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from apache_beam.runners.portability.local_job_service import BeamFnLoggingServicer
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance
from google.protobuf import json_format, text_format

from preprocess import forks

_URN = "kilobatch:environment:forked:v1"


class ForkedEnvironment(SubprocessSDKEnvironment):  # type: ignore[misc]
    """Beam's environment of a command, whose workers are forked instead."""

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        return _URN, b""


@WorkerHandler.register_environment(_URN, bytes)
class _ForkedWorkerHandler(GrpcWorkerHandler):  # type: ignore[misc]
    """Starts a worker and tells it what Beam's handler of a command does."""

    def __init__(self, payload: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)

    def start_worker(self) -> None:
        self._log = grpc.server(shared_unbounded_instance())
        log = endpoints_pb2.ApiServiceDescriptor(url=f"localhost:{self._log.add_insecure_port('localhost:0')}")
        services.add_BeamFnLoggingServicer_to_server(BeamFnLoggingServicer(), self._log)
        self._log.start()
        told = {
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.control_api_service_descriptor()),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(log),
            "PIPELINE_OPTIONS": json_format.MessageToJson(self.provision_info.provision_info.pipeline_options),
            "WORKER_ID": self.worker_id,
        }
        worker = forks.fork({**os.environ, **told})
        self._watcher = threading.Thread(target=_watch, args=(worker,))
        self._watcher.start()

    def stop_worker(self) -> None:
        self._watcher.join()
        self._log.stop(0)


def _watch(worker: socket.socket) -> None:
    with worker:
        if worker.recv(len(forks.DONE)) != forks.DONE:
            raise RuntimeError("a worker process ended before its work was done")
