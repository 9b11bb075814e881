"""`kilobatch pretrain`: one process a GPU (or `cpu_ranks` where there is none), by the DeepSpeed launcher."""

import base64
import fcntl
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from launch import plan
from launch.attempt import Start
from launch.leftovers import remove_leftovers
from launch.newest import Newest
from launch.supervise import NotNow, Run, previous_world_size, supervise
from pipeline.checkpoints.run_folder import RunFolder, check_provenance, identity
from pipeline.configfile import dump_config
from pipeline.corpus.shards import Corpus
from pipeline.errors import InputError, Stopped
from pipeline.files import MANIFEST, write_bytes
from pipeline.pretrain_config import PretrainConfig, RestartsConfig

TRAIN, PROFILE = "pipeline.train", "pipeline.profile"
QUIET = {"KINETO_LOG_LEVEL": "99"}  # the profiler's own log


@dataclass(frozen=True)
class Devices:
    """What ranks can be started on: `names` as the launcher and CUDA_VISIBLE_DEVICES have them."""

    names: list[str]
    kind: str  # GPU or CPU


def devices(config: PretrainConfig) -> Devices:
    """The devices of this machine now."""
    gpus = _gpus() if Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists() else 0
    if not gpus:
        return Devices([str(number) for number in range(config.cpu_ranks)], "CPU")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    return Devices(visible.split(",")[:gpus], "GPU")


def _gpus() -> int:
    """Counted by a process of its own: one that has looked once may not see that a device has gone."""
    script = "import torch; print(torch.cuda.device_count())"
    try:
        counted = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=300, check=True)
    except subprocess.SubprocessError as error:  # the driver hangs or fails
        raise NotNow(f"the GPUs cannot be counted: {error}") from None
    return int(counted.stdout)


def fitting(config: PretrainConfig, available: int) -> int:
    """The world size: the largest number up to that of the devices which divides the batch; all, if none does."""
    batch, micro = config.batch.train_batch_size, config.batch.train_micro_batch_size_per_gpu
    return next((size for size in range(available, 0, -1) if batch % (micro * size) == 0), available)


def pretrain(config: PretrainConfig, dry_run: bool = False, profile: bool = False) -> int:
    """Check everything that can be checked, then train, or profile some steps; the exit code of the run.

    Raises:
        InputError, DigestError, Stopped: before any process is started; all that `supervise` raises.
    """
    found = devices(config)
    world_size = fitting(config, len(found.names))
    corpus, _ = plan.check(config, world_size)
    plan.check_precision(config, found.kind)
    run = RunFolder(config.output)
    done = steps_done(run, config, corpus)
    if dry_run:
        plan.show(config, world_size, found.kind)
        return 0
    if is_done(run, config, done, profile):
        return 0
    if not profile:
        run.log.mkdir(parents=True, exist_ok=True)
    with locked(run) as lock:
        return supervise(_profile(config, run, found) if profile else _train(config, run, found, done), lock)


def _train(config: PretrainConfig, run: RunFolder, found: Devices, done: int) -> Run:
    """From step `done` on. Every restart is on the devices that are there then."""

    def make(made: int) -> Start:
        _look_at_inputs(config)
        now = devices(config) if made else found
        if now.kind == "CPU" != found.kind:  # a driver that is being reset finds none for a while
            raise NotNow(f"no {found.kind} is found any more")
        now = now if now.kind == found.kind else found  # what was checked is a run on CPUs
        again = {"resume": "auto"} if made and config.resume == "never" else {}
        write_bytes(run.config, dump_config(config.model_copy(update=again)).encode())
        return _start(TRAIN, run.config, config, now, previous_world_size(run.log))

    return Run(run.log, make, Newest(run, done).step, config.restarts)


def _look_at_inputs(config: PretrainConfig) -> None:
    """Raises OSError where what the first start has read is away: to a rank that would be a mistake of the user's."""
    for path in (config.corpus / MANIFEST, config.deepspeed):
        path.open("rb").close()


def _profile(config: PretrainConfig, run: RunFolder, found: Devices) -> Run:
    """Nothing is restarted, and nothing written but below one folder: the run's own settings are not a profile's."""
    resolved = run.path / "profile" / "config.yaml"
    write_bytes(resolved, dump_config(config).encode())
    start = _start(PROFILE, resolved, config, found, None)
    return Run(resolved.parent / "log", lambda made: start, lambda: 0, RestartsConfig(max_restarts=0))


def _start(module: str, resolved: Path, config: PretrainConfig, found: Devices, previous: int | None) -> Start:
    """The launcher's command on this machine. `previous`: the world size of the start before."""
    size = fitting(config, len(found.names))
    said = [f"{size} of {len(found.names)} {found.kind}s, the most that divide the batch"] * (size < len(found.names))
    said += [f"{size} rank(s) where the start before had {previous}"] * (previous not in (None, size))
    if said:
        said.append(str(plan.geometry_of(config, size)))
    environment = {**QUIET, **os.environ, **_environment(size, found.kind)}
    return Start(_command(module, resolved, found.names[:size]), environment, size, ": ".join(said))


def _command(module: str, config: Path, names: list[str]) -> list[str]:
    """Of DeepSpeed's launcher for one machine, which its `deepspeed` command starts: seconds sooner without that."""
    machine = base64.urlsafe_b64encode(json.dumps({"localhost": names}).encode()).decode()
    return [
        sys.executable, "-u", "-m", "deepspeed.launcher.launch", f"--world_info={machine}",
        "--master_addr=127.0.0.1", f"--master_port={free_port()}", "--no_local_rank", "--log_level=critical",
        "--module", "pipeline.rank", module, str(config),
    ]  # fmt: skip


def _environment(world_size: int, kind: str) -> dict[str, str]:
    """What the ranks need: on CPUs, a fair share of the cores each."""
    if kind == "GPU":
        return {}
    cores = len(os.sched_getaffinity(0))
    return {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(max(1, cores // world_size))}


def free_port() -> int:
    """A port that nobody listens on, and that the kernel gives to no connection before the ranks, seconds later, do."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])  # of those that it gives
    while True:
        port = secrets.choice(range(1024, first)) if first > 2048 else 0
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return int(listener.getsockname()[1])


def is_done(run: RunFolder, config: PretrainConfig, done: int, profile: bool = False) -> bool:
    """Whether all steps are made; it then says so.

    Raises:
        Stopped: `stop_at_step` was reached before.
    """
    if done >= config.schedule.total_steps:
        print(f"{run.checkpoint(done)}: all {done} steps are done; nothing to do")
        return True
    if config.stop_at_step is not None and done >= config.stop_at_step and not profile:
        raise Stopped(f"{run.checkpoint(done)}: stop_at_step {config.stop_at_step} was reached before")
    return False


def steps_done(run: RunFolder, config: PretrainConfig, corpus: Corpus) -> int:
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

    What killed holders left goes.

    Raises:
        InputError: another command is training in it, on this machine or another.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run.path, os.O_RDONLY)
    try:
        if not _is_free(descriptor):
            raise InputError(f"{run.path}: another run is training here; wait for it, or give another output")
        with _locked_everywhere(run):
            remove_leftovers(run)
            yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _locked_everywhere(run: RunFolder) -> Iterator[None]:
    """Hold a file of the run, which a shared file system shows to other machines; a lock on a folder it does not.

    A run without a log has not been trained.
    """
    lock = run.log / "lock"
    with ExitStack() as held:
        try:
            is_free = not run.log.is_dir() or _is_free(held.enter_context(lock.open("a")).fileno())
        except OSError as error:  # not every file system has locks
            print(f"kilobatch: {lock}: not locked: {error.strerror}", file=sys.stderr, flush=True)
            is_free = True
        if not is_free:
            raise InputError(f"{run.path}: a run on another machine is training here; wait for it")
        yield


def _is_free(descriptor: int) -> bool:
    """Whether nobody held the lock; now it is held."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
