"""A run that goes on by itself: started again after each failure, as long as that gets it further.

How a start is made is the caller's: `launch.local` makes one for this machine.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.attempt import Attempt, Outcome, Start
from launch.signals import Signals
from pipeline.errors import DigestError, InputError, LeftAtOnce, RunError, Stopped, UserError
from pipeline.pretrain_config import RestartsConfig
from pipeline.watching import rank_log

STARTS = "starts.jsonl"
STALLED = 2  # restarts in a row that made no progress: no more
SHOWN_LINES = 10  # of each rank's log
SIGNALLED = 128  # + the number of a signal: an exit code


class NotNow(RunError):
    """A start cannot be made; later it may."""


@dataclass(frozen=True)
class Run:
    """What is supervised.

    Args:
        log: its log folder. make: the start to make now, given how many were made before (0: the first).
        reached: the step from which it would go on now: of its newest sound checkpoint. restarts: when, and how often.
    """

    log: Path
    make: Callable[[int], Start]
    reached: Callable[[], int]
    restarts: RestartsConfig


class _History:
    """What this command has seen so far, and what follows from it."""

    def __init__(self, restarts: RestartsConfig) -> None:
        self.restarts = restarts
        self.made = 0  # starts
        self.stalled = 0  # restarts in a row that made no progress
        self.quick = 0  # failures in a row of starts that did not last
        self.absent = False  # whether the last start could not be made
        self.first = self.last = ""  # failure: since the last progress, and of all

    def failed(self, reason: str, *, progress: bool | None, seconds: float) -> None:
        """A start has ended so, after so many seconds; `progress` is None where nobody can tell now."""
        self.first = reason if progress or not self.first else self.first
        self.last, self.absent = reason, False
        if progress is not None:
            self.stalled = 0 if progress else self.stalled + (self.made > 0)
        self.quick = 0 if seconds > self.restarts.longest_wait_seconds else self.quick + 1
        self.made += 1

    def not_made(self, reason: str) -> None:
        """There could not be a start now, which says nothing of the run's progress."""
        self.last, self.absent = reason, True
        self.quick += 1
        self.made += 1

    def may_restart(self) -> bool:
        return self.stalled < STALLED and self.made <= self.restarts.max_restarts

    def wait_seconds(self) -> float:
        doubled = self.restarts.first_wait_seconds * 2.0 ** min(max(self.quick - 1, 0), 60)
        return min(doubled, self.restarts.longest_wait_seconds)

    def given_up(self, step: int) -> RunError:
        if self.made == 1:
            return RunError(f"{self.last}; {_again(step)}")
        why = f", {STALLED} in a row without a newer checkpoint" if self.stalled == STALLED else ""
        why += f"; none could be made now: {self.last}" if self.absent else ""
        return RunError(
            f"gave up after {self.made - 1} restart(s){why}; the first failure: {self.first}; {_again(step)}"
        )


def _again(step: int) -> str:
    return f"run it again to go on from step {step}"


def supervise(run: Run, lock: int) -> int:
    """Run to the end; 0. `lock` is a descriptor that every launcher keeps open while it lives.

    Progress is a newer checkpoint: without one a restart does the same steps again.

    Raises:
        Stopped, InputError, DigestError, Diverged: it ended so. RunError: it failed, and no restart helped.
        LeftAtOnce: on a second signal. NotNow, OSError: not even the first start can be made.
    """
    run.log.mkdir(parents=True, exist_ok=True)
    signals, history, waited, number = Signals(), _History(run.restarts), 0.0, 0
    while True:
        try:
            step = run.reached()
            start = run.make(history.made)
            if start.said:
                _say(start.said)
            begin, number = time.monotonic(), max(_starts(run.log), number) + 1  # a full disk may have no note of it
            figures = {"step": step, "world_size": start.world_size, "failure": history.last, "waited": waited}
            _note(run.log, event="start", start=number, **figures)
            outcome = Attempt(start, number, run.log, signals, lock).run()
        except (NotNow, OSError) as error:
            if not history.made:
                raise
            history.not_made(_why(error))
            waited += _wait(history, signals, step)
            continue
        _note(run.log, event="end", start=number, code=outcome.code, reason=outcome.reason)
        if outcome.code == 0:
            return 0
        if not outcome.users:
            _show_logs(run.log, number)
        if not outcome.restart:
            raise _ended(outcome)
        seconds, begun = time.monotonic() - begin, _begun(run.log, number, step)
        step, progress = _reached(run, begun)
        if signals.heard:
            raise Stopped(f"{outcome.reason}; it was asked to stop, so there is no restart; {_again(step)}")
        history.failed(outcome.reason, progress=progress, seconds=seconds)
        waited = _wait(history, signals, step)


def _why(error: NotNow | OSError) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename2 or error.filename}: {error.strerror}"  # of a rename the name that was wanted
    return str(error)


def _begun(log: Path, number: int, expected: int) -> int:
    """The step from which a start has gone on: as its ranks say, if they came so far, who may have passed over more."""
    events = (event for of_rank in rank_log.read_events(log, number).values() for event in of_rank)
    return next((event["step"] for event in events if event["event"] == "loaded"), expected)


def _reached(run: Run, begun: int) -> tuple[int, bool | None]:
    """The step from which the run would go on, and whether that is behind `begun`, if that can be seen."""
    try:
        reached = run.reached()
    except OSError:  # the file system is away
        return begun, None
    return reached, reached > begun


def _wait(history: _History, signals: Signals, step: int) -> float:
    """Before a restart from a step; for how many seconds.

    Raises:
        RunError: there are to be no more. Stopped: on a signal.
    """
    if not history.may_restart():
        raise history.given_up(step)
    seconds = history.wait_seconds()
    _say(
        f"{history.last}; restart {history.made} of at most {history.restarts.max_restarts},"
        f" from step {step}, in {seconds:g} s"
    )
    if signals.wait(seconds):
        raise Stopped(f"stopped before a restart from step {step}; run it again to go on")
    return seconds


def _ended(outcome: Outcome) -> UserError:
    """What a rank has raised, or what its exit code stands for."""
    if outcome.code > SIGNALLED:
        return LeftAtOnce(outcome.code - SIGNALLED)
    kinds = {kind.exit_code: kind for kind in (InputError, DigestError, Stopped)}
    return kinds.get(outcome.code, RunError)(outcome.reason)


def _say(line: str) -> None:
    print(f"kilobatch: {line}", file=sys.stderr, flush=True)


def _show_logs(log: Path, number: int) -> None:
    """The last lines of every rank of a start."""
    for rank in sorted(rank_log.read_events(log, number)):
        for line in rank_log.last_lines(log, rank, SHOWN_LINES):
            print(f"  rank {rank} | {line}", file=sys.stderr, flush=True)


def _starts(log: Path) -> int:
    """How many starts of the run there were, by this command and those before it."""
    lines = _lines(log)
    return max((line["start"] for line in lines), default=0)


def previous_world_size(log: Path) -> int | None:
    """That of the last start, if there was one."""
    sizes = [line["world_size"] for line in _lines(log) if line["event"] == "start"]
    return sizes[-1] if sizes else None


def _lines(log: Path) -> list[dict[str, Any]]:
    lines = []
    with suppress(OSError):
        for line in (log / STARTS).read_bytes().splitlines():
            with suppress(ValueError):  # the last one may be torn
                lines.append(json.loads(line))
    return lines


def _note(log: Path, **values: Any) -> None:
    with suppress(OSError), (log / STARTS).open("a", encoding="utf-8") as file:  # a full disk is told by who needs it
        file.write(json.dumps({"time": time.time(), **values}) + "\n")
