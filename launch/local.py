"""`kilobatch pretrain`: one process a GPU (or `cpu_ranks` where there is none), by the DeepSpeed launcher."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from launch import plan
from pipeline.configfile import dump_config
from pipeline.errors import InputError, RunError, Stopped
from pipeline.files import write_bytes
from pipeline.pretrain_config import PretrainConfig
from pipeline.run_folder import RunFolder, check_provenance, identity
from pipeline.shards import Corpus

MODULES = TRAIN, PROFILE = "pipeline.train", "pipeline.profile"
QUIET = {"KINETO_LOG_LEVEL": "99"}  # the profiler's own log
STOP = signal.SIGUSR1  # SIGTERM is what the launcher itself kills ranks with
KILLED = 256 - 65  # and above: how the launcher says that a signal ended a rank
KILLED_BY_STOP = 256 - STOP  # how the launcher says that a rank was, before it could hear


def devices(config: PretrainConfig) -> tuple[int, str]:
    """Processes to start on this machine, and on what."""
    gpus = 0
    if Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists():  # else the seconds of importing torch are saved
        import torch

        gpus = torch.cuda.device_count()
    return (gpus, "GPU") if gpus else (config.cpu_ranks, "CPU")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def pretrain(config: PretrainConfig, dry_run: bool = False, profile: bool = False) -> int:
    """Check everything that can be checked, then train, or profile some steps; the exit code of the run.

    Raises:
        InputError, DigestError, Stopped: before any process is started.
    """
    world_size, device = devices(config)
    corpus, _ = plan.check(config, world_size)
    run = RunFolder(config.output)
    done = _done(run, config, corpus)
    if dry_run:
        plan.show(config, world_size, device)
        return 0
    if done >= config.schedule.total_steps:
        print(f"{run.checkpoint(done)}: all {done} steps are done; nothing to do")
        return 0
    if config.stop_at_step is not None and done >= config.stop_at_step and not profile:
        raise Stopped(f"{run.checkpoint(done)}: stop_at_step {config.stop_at_step} was reached before")
    with locked(run) as lock:
        resolved = run.path / "profile" / "config.yaml" if profile else run.config  # the run's own is not a profile's
        write_bytes(resolved, dump_config(config).encode())
        command = _command(PROFILE if profile else TRAIN, resolved, world_size, device)
        return supervise(command, {**QUIET, **os.environ, **_environment(world_size, device)}, lock)


def _done(run: RunFolder, config: PretrainConfig, corpus: Corpus) -> int:
    """The steps of the checkpoint that the run would go on from.

    Raises:
        InputError: it was made with something else, or `resume` forbids what would happen.
        DigestError: there are checkpoints, and none is sound.
    """
    manifest, _ = run.to_resume(config.resume)
    if manifest is None:
        return 0
    check_provenance(manifest, identity(config, corpus), run.checkpoint(manifest["step"]))
    return int(manifest["step"])


@contextmanager
def locked(run: RunFolder) -> Iterator[int]:
    """Hold the run's folder; the launcher inherits the lock, so that it outlives this process.

    Raises:
        InputError: another command is training in it.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run.path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except BlockingIOError:
        raise InputError(f"{run.path}: another run is training here; wait for it, or give another output") from None
    finally:
        os.close(descriptor)


def _command(module: str, config: Path, world_size: int, device: str) -> list[str]:
    # Given a number of devices the launcher would forget CUDA_VISIBLE_DEVICES; on CPUs it would count NUMA nodes.
    chosen = device == "GPU" and "CUDA_VISIBLE_DEVICES" in os.environ
    return [
        str(Path(sys.executable).with_name("deepspeed")),
        *([] if chosen else ["--num_accelerators", str(world_size)]),
        "--hostfile", os.devnull,  # else one in DeepSpeed's default place would make this a run on many machines
        "--master_port", str(_free_port()),
        "--no_local_rank", "--log_level", "critical", "--module", module, str(config),
    ]  # fmt: skip


def _environment(world_size: int, device: str) -> dict[str, str]:
    """What the ranks need: on CPUs, a fair share of the cores each."""
    if device == "GPU":
        return {}
    cores = len(os.sched_getaffinity(0))
    return {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(max(1, cores // world_size))}


def supervise(command: list[str], environment: dict[str, str], lock: int) -> int:
    """Run the launcher; hand a stop signal to the ranks alone, so that they save before they end.

    The launcher itself would kill them after the first one exits, so it is never signalled. The signal is repeated,
    since a rank that is still starting cannot hear it.

    Raises:
        Stopped: asked to stop before the ranks had begun. RunError: a rank was killed.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: stop.set())
    launcher = subprocess.Popen(command, env=environment, start_new_session=True, pass_fds=[lock])
    while True:
        try:
            code = launcher.wait(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            if stop.is_set():
                _signal_ranks(launcher.pid)
    if stop.is_set() and code == KILLED_BY_STOP:
        raise Stopped("stopped before the first step of this start; run it again to go on")
    if code > KILLED:
        killed = f"signal {256 - code} ({signal.strsignal(256 - code)})"
        raise RunError(f"a rank was killed by {killed}; run it again to go on from the last checkpoint")
    return code


def _signal_ranks(launcher: int) -> None:
    with suppress(psutil.Error):  # processes end while they are looked at
        for process in psutil.Process(launcher).children(recursive=True):
            with suppress(psutil.Error):
                if _is_rank(process) and not _is_rank(process.parent()):  # a rank's loader workers look like it
                    process.send_signal(STOP)


def _is_rank(process: psutil.Process | None) -> bool:
    """Whether the launcher started this process as `python -u -m pipeline.train …`."""
    return process is not None and process.cmdline()[1:4] in [["-u", "-m", module] for module in MODULES]
