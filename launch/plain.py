"""What may stand in the command of a remote shell, and in the environment that is exported there.

DeepSpeed joins the words of the remote command with blanks, and puts values that hold anything unusual in double
quotes: `$(…)` in a path or in a value runs, on every machine. pdsh replaces %h, %n and %u besides. What could mean
anything to either is refused before they see it (law 6: no shell string is built from a file's or a user's text).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import InputError

_PLAIN = re.compile(r"[\w./+,=@:-]+")
_QUOTABLE = re.compile(r"[^$`\\\"%\x00-\x1f\x7f]*")  # what means nothing inside double quotes, nor to pdsh
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

DEEPSPEEDS = ("PYTHON", "MV2", "UCX", "NCCL")  # prefixes of what DeepSpeed exports by itself
WITHHELD = "MLFLOW"  # the last of DeepSpeed's: access tokens, which nothing here uses and every `ps` would show
OURS = ("GLOO_", "TORCH_NCCL_", "KILOBATCH_")
OUR_NAMES = ("DS_ACCELERATOR", "OMP_NUM_THREADS", "KINETO_LOG_LEVEL", "HF_HUB_OFFLINE")


def check_plain(what: str, path: Path | str) -> str:
    """A path that any shell takes as it is.

    Raises:
        InputError: it has a blank, a quote, `$` or the like.
    """
    text = str(path)
    if not _PLAIN.fullmatch(text):
        odd = next(character for character in text if not _PLAIN.fullmatch(character))
        raise InputError(
            f"{what}: {text!r} has {odd!r}, which a remote shell may take for more than a character; "
            f"accepted are letters, digits and any of _ . / + , = @ : -"
        )
    return text


def check_value(where: str, name: str, value: str) -> None:
    """Refuse what would not arrive as it is. The value, which may be secret, is not shown.

    Raises:
        InputError: a name that is none, or a value with `$`, a quote, `%` or a control character.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: {name!r} is no name of a variable; accepted is NAME=VALUE")
    if not _QUOTABLE.fullmatch(value):
        odd = next(character for character in value if not _QUOTABLE.fullmatch(character))
        raise InputError(
            f"{where}: the value of {name} has {odd!r}, which a remote shell would not leave as it is; "
            'accepted is anything but $ ` \\ " % and control characters'
        )


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of this process that every rank gets, and DeepSpeed does not export by itself.

    Raises:
        InputError: one of them, or of those that DeepSpeed exports, would be changed by a shell.
    """
    for name, value in environment.items():
        if name.startswith(DEEPSPEEDS):
            check_value("environment", name, value)
    ours = {k: v for k, v in environment.items() if k.startswith(OURS) or k in OUR_NAMES}
    for name, value in ours.items():
        check_value("environment", name, value)
    return ours


def read_variables(path: Path) -> dict[str, str]:
    """The NAME=VALUE lines of a `.deepspeed_env`, as DeepSpeed's users know it; blank lines and comments are no lines.

    Raises:
        InputError: the first line that is wrong.
    """
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.strip().partition("=")
        if not equals:
            raise InputError(f"{path}:{number}: found {name!r}; accepted is NAME=VALUE")
        check_value(f"{path}:{number}", name, value)
        found[name] = value
    return found
