"""What a host of a run says of itself: `python -m launch.host`, started there over ssh, one request in, one answer out.

A request is a line of JSON on standard input, so that no path and no name of a run stands in a shell's command:

    {"do": "check", …}    is this machine fit for the run? What an earlier start left here is killed first, if `end`
    {"do": "stop", …}     ask the run's ranks here to save and end
    {"do": "end", …}      kill them

The answer is a line of JSON behind MARK, since login shells say this and that.
"""

import hashlib
import json
import os
import platform
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.checkpoints.run_folder import versions
from pipeline.files import file_sha256

MARK = "kilobatch-host: "
RANK = "launch.rank"
STOP = signal.SIGUSR1  # SIGTERM is what the launcher itself kills ranks with
SOURCES = ("pipeline", "launch")


def gpus() -> int:
    """GPUs of this machine."""
    if not (Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()):  # the seconds of importing torch are saved
        return 0
    import torch

    return torch.cuda.device_count()


def code_digest() -> str:
    """Of the source that runs here: a version's number stays the same while a checkout changes."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for package in SOURCES for path in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def identity() -> dict[str, str]:
    """What must be the same on all hosts."""
    return {"Python": platform.python_version(), **versions(), "Kilobatch's code": code_digest()[:12]}


def ranks(config: str) -> list[psutil.Process]:
    """This user's processes here that train by RUN/config.yaml, and their loader workers, which look like them."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # processes end while they are looked at
            if process.uids().real == os.getuid() and process.cmdline()[1:] == ["-u", "-m", RANK, config]:
                found.append(process)
    return found


def stop(config: str) -> int:
    """Ask the ranks to save and end; how many were asked. Each hands it on to what it looks after."""
    found = {process.pid: process for process in ranks(config)}
    asked = 0
    for process in found.values():
        with suppress(psutil.Error):
            if process.ppid() not in found:
                process.send_signal(STOP)
                asked += 1
    return asked


def end(config: str) -> int:
    """Kill the ranks, and wait until they are gone; how many there were."""
    found = ranks(config)
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=30)
    return len(found)


def check(request: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with this machine for the run, each in a few words, and what the others need to know of it."""
    ended = end(request["config"]) if request["end"] else 0
    problems = [
        f"{name} is {found}, here {expected}"
        for (name, expected), found in zip(request["identity"].items(), identity().values(), strict=True)
        if found != expected
    ]
    problems += _folder(Path(request["run"]), request["nonce"], request["answer"])
    problems += _files(request["files"])
    count = 0 if request["cpu"] else gpus()
    if count and count < request["slots"]:
        problems.append(f"has {count} GPU(s), fewer than its {request['slots']} slots")
    unknown = ""
    try:
        socket.getaddrinfo(request["master"], None)
    except OSError as error:
        unknown = f"does not know the name {request['master']!r} of the first host: {error.strerror}"
    cores = len(os.sched_getaffinity(0))
    return {
        "problems": problems,
        "unknown": unknown,  # a problem only where the first host takes part: the name of one that is lost may be too
        "ended": ended,
        "gpus": count,
        "cores": cores,
        "port": _free_port(),
    }


def _folder(run: Path, nonce: str, answer: str) -> list[str]:
    """Whether this machine reads what the command wrote into the run's folder; writes there what the command reads."""
    try:
        if (run / nonce).read_text(encoding="utf-8") != nonce:
            return [f"reads something else in {run} than was written there"]
        (run / answer).write_text(nonce, encoding="utf-8")
    except OSError as error:
        return [f"{error.filename}: {error.strerror}: the run's folder must be one that all hosts share"]
    return []


def _files(digests: dict[str, str]) -> list[str]:
    problems = []
    for path, expected in digests.items():
        try:
            if file_sha256(Path(path)) != expected:
                problems.append(f"{path} is another file here")
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    return problems


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def answer(request: dict[str, Any]) -> dict[str, Any]:
    match request["do"]:
        case "check":
            return check(request)
        case "stop":
            return {"reached": stop(request["config"])}
        case _:
            return {"reached": end(request["config"])}


if __name__ == "__main__":
    print(f"{MARK}{json.dumps(answer(json.loads(sys.stdin.readline())))}", flush=True)
