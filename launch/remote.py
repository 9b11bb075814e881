"""Questions to the hosts of a run, over ssh, to all of them at once and in bounded time."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.host import MARK
from launch.hostfile import Host
from launch.plain import check_plain

CONNECT_SECONDS = 10
ANSWER_SECONDS = 90.0  # Python and its libraries may come over the network too
# No password is asked for, and a host that is gone is noticed within a minute.
SSH_OPTIONS = ("BatchMode=yes", f"ConnectTimeout={CONNECT_SECONDS}", "ServerAliveInterval=15", "ServerAliveCountMax=4")
SSH_ARGUMENTS = "PDSH_SSH_ARGS_APPEND"  # what pdsh's users set


class Unanswered(Exception):
    """A host did not answer; `why` says it in a few words."""

    def __init__(self, host: Host, why: str) -> None:
        super().__init__(f"host {host.name}: {why}")
        self.why = why


@dataclass(frozen=True)
class Ssh:
    """How hosts are reached: like pdsh reaches them.

    Args:
        arguments: further ones of ssh, for all hosts. folder: the working folder there; python: its interpreter.
        path: PYTHONPATH there.
    """

    arguments: tuple[str, ...]
    folder: str
    python: str
    path: str

    @classmethod
    def of(cls, environment: Mapping[str, str], port: int | None) -> "Ssh":
        """As the environment and the command line say.

        Raises:
            InputError: the working folder or the interpreter has a name that a shell would read.
        """
        given = environment.get(SSH_ARGUMENTS, "").split()  # as pdsh does
        options = [word for option in SSH_OPTIONS for word in ("-o", option)]
        folder = check_plain("the working folder", Path.cwd())
        return cls(
            tuple([*given, *(["-p", str(port)] if port else []), *options]),
            folder,
            check_plain("Python", sys.executable),
            ":".join(filter(None, (folder, environment.get("PYTHONPATH")))),
        )

    def pdsh_arguments(self) -> str:
        """For pdsh, which splits them at blanks."""
        return " ".join(self.arguments)

    def ask(self, host: Host, request: dict[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """A host's answer.

        Raises:
            Unanswered: it could not be reached, was too slow, or failed.
        """
        command = (
            f"cd {shlex.quote(self.folder)} && PYTHONPATH={shlex.quote(self.path)} exec {self.python} -m launch.host"
        )
        words = ["ssh", *self.arguments, "--", host.name, command]
        line = json.dumps(request) + "\n"
        try:
            done = subprocess.run(words, input=line, capture_output=True, text=True, errors="replace", timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Unanswered(host, f"no answer within {seconds:g} s") from None
        answers = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
        if done.returncode != 0 or len(answers) != 1:
            said = done.stderr.strip().splitlines() or [f"ssh ended with {done.returncode}"]
            raise Unanswered(host, f"not reachable by ssh: {said[-1]}" if done.returncode == 255 else said[-1])
        answer: dict[str, Any] = json.loads(answers[0])
        return answer

    def ask_all(
        self, hosts: Sequence[Host], requests: Sequence[dict[str, Any]], seconds: float = ANSWER_SECONDS
    ) -> list[dict[str, Any] | Unanswered]:
        """The answers of all hosts, or why there is none."""

        def asked(host: Host, request: dict[str, Any]) -> dict[str, Any] | Unanswered:
            try:
                return self.ask(host, request, seconds)
            except Unanswered as error:
                return error

        with ThreadPoolExecutor(max_workers=min(len(hosts), 4 * (os.cpu_count() or 1) + 28)) as pool:
            return list(pool.map(asked, hosts, requests))
