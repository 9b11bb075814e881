"""Before a start: is every host fit for the run? Asked of all at once, said in one line a host."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.host import identity
from launch.hostfile import Host
from launch.leftovers import PREFLIGHT
from launch.remote import Ssh, Unanswered
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.files import MANIFEST, file_sha256
from pipeline.pretrain_config import PretrainConfig

DRY_RUN = ".dry-run-"  # which holds no lock


@dataclass(frozen=True)
class Fit:
    """A host that can take part: what is to be known of it."""

    host: Host
    gpus: int
    cores: int
    port: int  # free a moment ago


def preflight(
    ssh: Ssh, hosts: Sequence[Host], config: PretrainConfig, master: str, *, cpu: bool, end: bool
) -> list[Fit]:
    """The hosts that are fit, in order.

    Each must answer, run the same Python, libraries and code, see the run's folder (it reads there what was written
    here, and this machine reads what it wrote), the same corpus and DeepSpeed JSON, know the first host's name, and
    have a GPU for each slot, unless no host has any.

    Args:
        master: the first host's name. cpu: GPUs are not used. end: what an earlier start left on them is killed.
    """
    run = RunFolder(config.output)
    folder = run.log
    folder.mkdir(parents=True, exist_ok=True)
    nonce = f"{PREFLIGHT if end else DRY_RUN}{secrets.token_hex(8)}"
    common = {
        "do": "check",
        "config": str(run.config.absolute()),
        "identity": identity(),
        "run": str(folder.absolute()),
        "nonce": nonce,
        "files": _digests(config.corpus / MANIFEST, config.deepspeed),
        "cpu": cpu,
        "end": end,
        "master": master,
    }
    requests = [{**common, "slots": host.slots, "answer": f"{nonce}-{n}"} for n, host in enumerate(hosts)]
    try:
        (folder / nonce).write_text(nonce, encoding="utf-8")
        answers = ssh.ask_all(hosts, requests)
        written = [_read(folder / str(request["answer"])) == nonce for request in requests]
    finally:
        for path in folder.glob(f"{nonce}*"):
            path.unlink(missing_ok=True)
    return _judge(hosts, answers, written)


def _judge(hosts: Sequence[Host], answers: Sequence[dict[str, Any] | Unanswered], written: list[bool]) -> list[Fit]:
    fit = []
    with_gpus = any(not isinstance(answer, Unanswered) and answer["gpus"] for answer in answers)
    first_is_fit = not _problems(answers[0], written[0], with_gpus)
    for host, answer, seen in zip(hosts, answers, written, strict=True):
        problems = _problems(answer, seen, with_gpus)
        if first_is_fit and not isinstance(answer, Unanswered) and answer["unknown"]:
            problems.append(answer["unknown"])
        if problems:
            print(f"host {host.name}: left out: {'; '.join(problems)}", flush=True)
            continue
        assert not isinstance(answer, Unanswered)
        fit.append(Fit(host, answer["gpus"], answer["cores"], answer["port"]))
        has = f"{answer['gpus']} GPU(s)" if with_gpus else f"{answer['cores']} core(s), no GPU"
        ended = f"; {answer['ended']} process(es) of an earlier start were killed" if answer["ended"] else ""
        print(f"host {host.name}: ready: {has}, {host.slots} slot(s){ended}", flush=True)
    return fit


def _problems(answer: dict[str, Any] | Unanswered, seen: bool, with_gpus: bool) -> list[str]:
    if isinstance(answer, Unanswered):
        return [answer.why]
    problems = list(answer["problems"])
    if not problems and not seen:
        problems.append("what it writes into the run's folder is not seen here")
    if with_gpus and not answer["gpus"]:
        problems.append("has no GPU, others have")
    return problems


def _digests(*paths: Path) -> dict[str, str]:
    return {str(path): file_sha256(path) for path in paths}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
