"""The machines of a run: DeepSpeed's hostfile, read strictly.

    # a comment
    node-1 slots=8
    10.0.0.2 slots=8   # rack 3

DeepSpeed takes any word before `slots=` for a name and hands it to ssh and pdsh, where `-oProxyCommand=…` is an option
and `node[1-9]` or `^file` a list. Here a name is a host name or an IPv4 address.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError

MOST_SLOTS = 1024
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SLOTS = re.compile(r"slots=([0-9]{1,9})")
EXPECTED = "a line is 'NAME slots=N'"


@dataclass(frozen=True)
class Host:
    """A machine and how many processes it takes."""

    name: str
    slots: int

    def __str__(self) -> str:
        return f"{self.name} slots={self.slots}"


def read_hostfile(path: Path) -> list[Host]:
    """The hosts of a file, in its order; rank 0 is on the first.

    Raises:
        InputError: no such file, no host in it, or the first line that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; expected a hostfile, {EXPECTED}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a hostfile, {EXPECTED}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; expected a hostfile, {EXPECTED}") from None
    hosts: dict[str, Host] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        host = _host(words, f"{path}:{number}")
        key = host.name.lower()
        if key in hosts:
            raise InputError(f"{path}:{number}: host {host.name!r} is on line {lines[key]} already; once is accepted")
        hosts[key], lines[key] = host, number
    if not hosts:
        raise InputError(f"{path}: no host in it; {EXPECTED}")
    return list(hosts.values())


def _host(words: list[str], place: str) -> Host:
    name, *rest = words
    if (wrong := wrong_name(name)) is not None:
        raise InputError(f"{place}: host {name!r}: {wrong}")
    if len(rest) != 1:
        found = "nothing" if not rest else repr(" ".join(rest))
        raise InputError(f"{place}: found {found} behind {name!r}; {EXPECTED}")
    match = _SLOTS.fullmatch(rest[0])
    if match is None or not 0 < int(match[1]) <= MOST_SLOTS:
        raise InputError(f"{place}: found {rest[0]!r} behind {name!r}; accepted is slots=1 to slots={MOST_SLOTS}")
    return Host(name, int(match[1]))


def wrong_name(name: str) -> str | None:
    """Why a text is neither a host name nor an IPv4 address; None if it is one."""
    if ":" in name:
        return "pdsh takes no IPv6 address and no port; give a name, and the rest in ssh's configuration"
    if "@" in name:
        return "a name alone is accepted; set the user in ssh's configuration"
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "accepted are host names and IPv4 addresses: letters, digits, '-', '_' and '.'"
    if labels[-1].isdecimal() and len(labels) > 1:
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            return "not an IPv4 address, and no host name ends in a number"
    return None


def render(hosts: Iterable[Host]) -> str:
    """The text of a hostfile."""
    return "".join(f"{host}\n" for host in hosts)


def pick(hosts: list[Host], micro_batches: int) -> list[Host]:
    """The hosts and slots of the largest world size that divides a step's micro-batches, the same slots on each.

    Hosts of the file's beginning are taken first, and few hosts with many slots rather than many with few. DeepSpeed
    numbers local ranks right only where all hosts have as many slots. Empty without hosts.
    """
    best: list[Host] = []
    for slots in sorted({slots for host in hosts for slots in range(1, host.slots + 1)}):
        able = [host for host in hosts if host.slots >= slots]
        number = next((n for n in range(len(able), 0, -1) if micro_batches % (n * slots) == 0), 0)
        if number * slots >= sum(host.slots for host in best):
            best = [Host(host.name, slots) for host in able[:number]] or best
    return best
