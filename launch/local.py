"""`kilobatch pretrain`: one process a GPU (or `cpu_ranks` where there is none), by the DeepSpeed launcher."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from launch import plan
from pipeline.configfile import dump_config
from pipeline.files import read_manifest, write_bytes
from pipeline.pretrain_config import PretrainConfig
from pipeline.run_folder import FORMAT, KIND, RunFolder, check_provenance, stamp, verify_checkpoint

MODULE = "pipeline.train"


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


def pretrain(config: PretrainConfig, dry_run: bool = False) -> int:
    """Check everything that can be checked, then train; the exit code of the run.

    Raises:
        InputError, DigestError: before any process is started.
    """
    world_size, device = devices(config)
    if dry_run:
        plan.show(config, world_size, device)
        return 0
    corpus, _ = plan.check(config, world_size)
    run = RunFolder(config.output)
    if config.resume != "never" and (steps := run.steps()):
        newest = run.checkpoint(steps[-1])
        check_provenance(read_manifest(newest, KIND, FORMAT), stamp(config, corpus), newest)
        if steps[-1] >= config.schedule.total_steps:
            verify_checkpoint(newest)
            print(f"{newest}: all {steps[-1]} steps are done; nothing to do")
            return 0
    write_bytes(run.config, dump_config(config).encode())
    command = [
        str(Path(sys.executable).with_name("deepspeed")),
        "--num_accelerators", str(world_size), "--master_port", str(_free_port()),
        "--no_local_rank", "--log_level", "critical", "--module", MODULE, str(run.config),
    ]  # fmt: skip
    return supervise(command, {**os.environ, **_environment(world_size, device)})


def _environment(world_size: int, device: str) -> dict[str, str]:
    """What the ranks need: on CPUs, a fair share of the cores each."""
    if device == "GPU":
        return {}
    cores = len(os.sched_getaffinity(0))
    return {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(max(1, cores // world_size))}


def supervise(command: list[str], environment: dict[str, str]) -> int:
    """Run the launcher; hand a stop signal to the ranks alone, so that they save before they end.

    The launcher itself would kill them after the first one exits, so it is never signalled.
    """
    launcher = subprocess.Popen(command, env=environment, start_new_session=True)

    def stop_ranks(number: int, frame: object) -> None:
        for process in psutil.Process(launcher.pid).children(recursive=True):
            if _is_rank(process) and not _is_rank(process.parent()):  # a rank's loader workers look like it
                process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, stop_ranks)
    return launcher.wait()


def _is_rank(process: psutil.Process | None) -> bool:
    """Whether the launcher started this process as `python -u -m pipeline.train …`."""
    return process is not None and process.cmdline()[1:4] == ["-u", "-m", MODULE]
