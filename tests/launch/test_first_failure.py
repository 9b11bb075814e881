"""Which of several failures was the first: by what ranks have told, what was seen of them, and the launcher's code."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from launch.attempt import Attempt, Death, Rank, Start
from launch.signals import Signals
from pipeline.watching import rank_log

KILL, SEGV, TERM, USR1, ABRT = 9, 11, 15, 10, 6
PEER = {"event": "end", "code": 1, "type": "RuntimeError", "message": "peer", "users": False, "restart": True}
WELL = {"event": "end", "code": 0}
LOST = "rank 0: RuntimeError: peer; its traceback is in "


class Unsignalled:
    """No stop signal was heard."""

    heard: list[int] = []  # noqa: RUF012


def outcome(folder: Path, ends: dict[int, dict[str, Any]], deaths: dict[int, Death], launcher: int) -> tuple[int, str]:
    """Of a start of two ranks: exit code and reason."""
    for rank in (0, 1):
        events = [{"event": "start", "time": 0.0}, *([ends[rank]] if rank in ends else [])]
        lines = (json.dumps({"start": 1, **event}) + "\n" for event in events)
        rank_log.events_of(folder, rank).write_text("".join(lines))
    attempt = Attempt(Start([], {}, 2), 1, folder, cast(Signals, Unsignalled()), 0)
    attempt.ranks = {rank: Rank(rank, None, death=deaths.get(rank)) for rank in (0, 1)}
    found = attempt._outcome(launcher)
    return found.code, found.reason


@pytest.mark.parametrize(
    ("ends", "deaths", "launcher", "code", "reason"),
    [
        # rank 1 is killed; its peer has told of that before it was seen, or the launcher was quicker to see it
        ({0: {**PEER, "time": 10}}, {1: Death(10.1, KILL)}, 256 - KILL, 1, "rank 1 was killed by signal 9 (Killed)"),
        ({0: {**PEER, "time": 10}}, {1: Death(10.1, KILL)}, 1, 1, "rank 1 was killed by signal 9 (Killed)"),
        ({0: {**PEER, "time": 10}}, {1: Death(10.1, None)}, 256 - KILL, 1, "rank 1 was killed by signal 9 (Killed)"),
        ({0: {**PEER, "time": 10}}, {}, 256 - KILL, 1, "rank 1 was killed by signal 9 (Killed)"),
        ({}, {}, 256 - SEGV, 1, "a rank was killed by signal 11 (Segmentation fault)"),
        # rank 0 raises; NCCL aborts its peer, or the launcher ends it
        ({0: {**PEER, "time": 10}}, {1: Death(11, ABRT)}, 256 - ABRT, 1, LOST),
        ({0: {**PEER, "time": 10}}, {1: Death(11, TERM)}, 1, 1, LOST),
        ({0: {**PEER, "time": 10}}, {1: Death(11, None)}, 1, 1, LOST),
        # who could tell is believed in the order of time
        (
            {0: {**PEER, "time": 10}, 1: {**PEER, "message": "mine", "time": 9}},
            {},
            1,
            1,
            "rank 1: RuntimeError: mine; ",
        ),
        # a rank is asked to stop that cannot hear it yet
        ({}, {1: Death(10, TERM)}, 256 - TERM, 75, "stopped before the first step"),
        ({0: {**PEER, "time": 9.9}}, {1: Death(10, USR1)}, 256 - USR1, 75, "stopped before the first step"),
        # a rank leaves without a word
        ({0: {**PEER, "time": 9}}, {1: Death(10, 7 << 8)}, 1, 7, "rank 1 ended with exit code 7"),
        ({0: {**WELL, "time": 9}}, {0: Death(9, 0)}, 7, 7, "rank 1 ended with exit code 7"),
        ({0: {**PEER, "time": 9}}, {1: Death(10, 0)}, 1, 1, "rank 1 ended with exit code 0 amid the run"),
        ({}, {1: Death(10, None)}, -KILL, 1, "rank 1 ended without a word"),  # killed here, since it did not end
        # a launcher that is killed may end with 0
        ({}, {0: Death(10, KILL), 1: Death(10.5, KILL)}, 0, 1, "rank 0 was killed by signal 9"),
        ({0: {**WELL, "time": 9}}, {}, 0, 1, "the launcher ended with exit code 0"),
        ({0: {**WELL, "time": 9}, 1: {**WELL, "time": 9}}, {0: Death(9, 0), 1: Death(9, 0)}, 0, 0, ""),
    ],
)
def test_the_first_failure(
    tmp_path: Path, ends: dict[int, Any], deaths: dict[int, Death], launcher: int, code: int, reason: str
) -> None:
    found, said = outcome(tmp_path, ends, deaths, launcher)
    assert found == code
    assert said.startswith(reason)
    assert bool(said) == bool(reason)
