"""A pool of Beam's workers: whether it starts one that answers. Prism would wait for ever for one that does not."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as api
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance

from pipeline.errors import InputError

PATIENCE = 120  # seconds: to start Python and import Beam on a busy machine
_ANSWER = 60  # seconds
_WORKER = "kilobatch"


class _Control(services.BeamFnControlServicer):  # type: ignore[misc]
    """What a worker asks for work: it gets none, and ends."""

    def __init__(self) -> None:
        self.came = threading.Event()

    def Control(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        self.came.set()
        return iter(())


def check(address: str) -> None:
    """Have a pool start a worker, which comes for work.

    Raises:
        InputError: there is no pool, or its Python is none in which Beam is installed.
    """
    control, server = _Control(), grpc.server(shared_unbounded_instance())
    services.add_BeamFnControlServicer_to_server(control, server)
    url = f"localhost:{server.add_insecure_port('localhost:0')}"
    server.start()
    try:
        with grpc.insecure_channel(address) as channel:
            pool = services.BeamFnExternalWorkerPoolStub(channel)
            request = api.StartWorkerRequest(worker_id=_WORKER, control_endpoint={"url": url})
            said = pool.StartWorker(request, timeout=_ANSWER).error
            came = not said and control.came.wait(PATIENCE)
            pool.StopWorker(api.StopWorkerRequest(worker_id=_WORKER), timeout=_ANSWER)
    except grpc.RpcError as error:
        raise InputError(f"--environment_config={address}: no worker pool there ({error.details()})") from None
    finally:
        server.stop(None)
    if not came:
        why = said.strip().splitlines()[-1] if said else f"none came within {PATIENCE} seconds"
        raise InputError(
            f"--environment_config={address}: the pool starts no worker ({why}); start it with that Python first on its"
            " PATH in which Kilobatch is installed"
        )
