"""A rank that makes no progress for a set time says where it stands and ends, so that the run is started again.

Every rank watches itself, so no word has to reach another one. The loop notes what it is doing, in less than a
microsecond; a thread wakes many times in the set time and counts how often in a row it finds nothing new. It counts
wakings, not seconds: a machine that slept is no hang. When the time is up:

    at once          the Python stacks of all threads go to RUN/log/stacks-rank-00000.txt
    after a grace    the lowest rank that wrote some says one line for people: who waits where, and who wrote nothing
    after three      that rank ends, with 1, and the launcher ends the others; if not, they end one grace later

so a rank that notices up to three graces later than the first has still written its own. Who goes on within them goes
on. Where a thread holds the interpreter's lock for ever, `faulthandler` writes the stacks to stderr after two graces
and ends the process, from a thread that needs no lock. A rank that is stopped (SIGSTOP) can do nothing; the others end.
"""

import faulthandler
import math
import os
import re
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from pipeline.configfile import Config
from pipeline.errors import RunError
from pipeline.watching import rank_log

TICKS = 60  # wakings in the set time
SHORTEST_GRACE = 2.0  # seconds
_HEADER = re.compile(r"== rank \d+, (.+): no progress for .+")

Minutes = Annotated[float, Field(gt=0)]


class WatchdogConfig(Config):
    """How long a rank may do nothing new: no micro-batch, update, batch of an evaluation or checkpoint."""

    minutes: Minutes = 30
    start_minutes: Minutes = 30  # until the first step is done, if longer: it compiles and fills the loaders


class Watchdog:
    """One a process, since `faulthandler` has one timer. Watches from entering it as a context to leaving it.

    Args:
        folder: for the stacks. rank, world_size: of this process.
    """

    def __init__(self, config: WatchdogConfig, folder: Path, rank: int, world_size: int) -> None:
        self.folder, self.rank, self.world_size = folder, rank, world_size
        self.tick = 60 * config.minutes / TICKS  # seconds
        self.grace = math.ceil(max(SHORTEST_GRACE, 60 * config.minutes / 20) / self.tick)  # wakings
        self.start_ticks = max(TICKS, math.ceil(60 * config.start_minutes / self.tick))
        self.number, self.part = 0, "start"
        self.noted, self.steps = 0, 0
        self.seen, self.silent = 0, 0
        self.lengths: dict[int, int] = {}  # of the ranks' stacks, half the set time ago
        self.speaks, self.said = True, ""
        self.left = threading.Event()

    @property
    def longest(self) -> float:
        """Seconds after which this process has ended if it never makes progress."""
        return self.tick * (self.start_ticks + 5 * self.grace)

    def step(self, number: int) -> None:
        """Progress: step `number` (from 1) begins; the ranks first add up its predicted tokens."""
        self.number = number
        self.steps += 1
        self.now("predicted tokens")

    def now(self, part: str) -> None:
        """Progress: what this rank does from now on, in a word for people."""
        self.part = part
        self.noted += 1

    def alive(self) -> None:
        """Progress behind the loop's back."""
        self.noted += 1

    def __enter__(self) -> Self:
        self._arm()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        self.thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while not self.left.wait(self.tick):
            self.look()
            self._arm()

    def _arm(self) -> None:
        """If this is not called again for so long, nobody can look."""
        ticks = max(self._limit() - self.silent, self.grace) + 2 * self.grace
        faulthandler.dump_traceback_later(ticks * self.tick, exit=True, file=sys.stderr)

    def _limit(self) -> int:
        return TICKS if self.steps > 1 else self.start_ticks

    def look(self) -> None:
        """One waking: count, and do what is due."""
        if self.noted != self.seen:
            self.seen, self.silent = self.noted, 0
            return
        self.silent += 1
        late = self.silent - self._limit()
        if late == -TICKS // 2:
            self.lengths = {rank: self._length(rank) for rank in range(self.world_size)}
        elif late == 0:
            self.write_stacks()
        elif late == self.grace:
            self.tell()
        elif late == (3 if self.speaks else 4) * self.grace:
            self.end()

    def write_stacks(self) -> None:
        """Add the stacks of all threads to this rank's file, unless the disk is full, say: it ends all the same."""
        with suppress(OSError):
            self._write_stacks()

    def _write_stacks(self) -> None:
        names = ", ".join(f"0x{thread.ident or 0:016x} {thread.name}" for thread in threading.enumerate())
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._stacks(self.rank).open("a", encoding="utf-8") as file:
            now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
            file.write(
                f"== rank {self.rank}, {self._place()}: no progress for {self._waited()}; {now}, threads: {names}\n"
            )
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)

    def tell(self) -> None:
        """Say who waits where, if no rank below this one will."""
        self.speaks = not any(self._has_written(rank) for rank in range(self.rank))
        if not self.speaks:
            self.said = f"rank {self.rank} made no progress for {self._waited()}, at {self._place()}"
            return
        places = defaultdict(list)
        for rank in range(self.world_size):
            place = self._last_header(rank) if self._has_written(rank) else ""
            places[place].append(rank)
        silent = places.pop("", [])
        said = [f"{_ranks(ranks)} at {place}" for place, ranks in places.items()]
        if silent:
            said.append(f"{_ranks(silent)} wrote nothing (stopped, lost, or not yet waiting)")
        self.said = (
            f"no progress for {self._waited()}: {'; '.join(said)}; the stacks of all threads are in {self.folder}"
        )
        with suppress(OSError):
            print(f"kilobatch: {self.said}; ending", file=sys.stderr, flush=True)

    def end(self) -> None:
        code = RunError.exit_code
        rank_log.note("end", code=code, type="Watchdog", message=self.said, users=True, restart=True)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)

    def _place(self) -> str:
        return f"step {self.number}, {self.part}"

    def _has_written(self, rank: int) -> bool:
        """Whether a rank has written its stacks since half the set time ago. No clock is asked: machines' differ."""
        return self._length(rank) > self.lengths[rank]

    def _length(self, rank: int) -> int:
        """Of what a rank has written; it is opened, since only then a network file system asks its server."""
        try:
            with self._stacks(rank).open("rb") as file:
                return file.seek(0, os.SEEK_END)
        except OSError:
            return 0

    def _last_header(self, rank: int) -> str:
        """What a rank was doing when it last wrote its stacks; nothing where that cannot be read."""
        with suppress(OSError):
            lines = self._stacks(rank).read_text().splitlines()
            return next((match[1] for line in reversed(lines) if (match := _HEADER.match(line))), "")
        return ""

    def _stacks(self, rank: int) -> Path:
        return self.folder / f"stacks-rank-{rank:05d}.txt"

    def _waited(self) -> str:
        seconds = self.silent * self.tick
        return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _ranks(ranks: list[int]) -> str:
    """Ranks in order, for people: `rank 1`, `ranks 0–6, 8`."""
    spans: list[list[int]] = []
    for rank in ranks:
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    said = ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in spans)
    return f"rank{'s' if len(ranks) > 1 else ''} {said}"
