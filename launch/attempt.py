"""One start of a run: its processes, until nothing of them is left, and why it ended."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from launch.signals import Signals
from pipeline.errors import DigestError, InputError, LeftAtOnce, RunError, Stopped
from pipeline.leash import leashed
from pipeline.watching import rank_log

STOP = signal.SIGUSR1  # SIGTERM is what the launcher itself ends ranks with
KILLED = 256 - 65  # and above: how the launcher says that a signal ended a rank
ASKED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)  # what ends a rank that cannot hear it yet
LINGER_SECONDS = 10.0  # what the other ranks have to end by themselves once one has failed
DEATH_SECONDS = 2.0  # a peer may tell that a rank is dead so much sooner than it is seen here …
LATER = -signal.SIGABRT  # … but with this, NCCL ends a rank that has lost its peer
LOOK_SECONDS = 0.25
PROCESSES = "processes"  # in the log's folder: ids of those that this command has seen
MEMBERS_SECONDS = 1.0  # between looks at which processes there are
ELSEWHERE_SECONDS = 1.0  # between looks at what ranks on other machines have told
ASK_SECONDS = 5.0  # between words to them that reached none
DISCONNECTED_SECONDS = 50.0  # more than those, where one host has ended and the others have told nothing
END_SECONDS = 60.0  # a killed process that is not gone by then hangs in the kernel
FINAL = (InputError.exit_code, DigestError.exit_code, Stopped.exit_code)


@dataclass(frozen=True)
class Elsewhere:
    """Ranks on other machines, which this one can neither signal nor watch.

    Args:
        exported: NAME=VALUE lines, which the launcher hands to the ranks.
        signal: sends a signal to all of them; whether it has reached any.
    """

    exported: Path
    signal: Callable[[signal.Signals], bool]


@dataclass(frozen=True)
class Start:
    """What a start is made of.

    Args:
        command: the launcher; the first word is a path. environment: of it, whole.
        world_size: ranks. said: a line about them, if there is something to say.
        elsewhere: where the ranks are, if not children of the launcher.
    """

    command: list[str]
    environment: dict[str, str]
    world_size: int
    said: str = ""
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True)
class Outcome:
    """How a start ended: `code` is that of the first failure, or 0; `restart`: whether another start may help."""

    code: int
    reason: str = ""
    restart: bool = False
    users: bool = True  # the reason is all there is to say: no log has more


@dataclass
class Death:
    """A rank whose process has ended, as seen from here."""

    time: float
    status: int | None  # as `waitpid` has it; None where the launcher was quicker to ask
    well: bool = False  # it had told that it has come to its end

    def exit_code(self) -> int | None:
        """−signal if it was one."""
        return None if self.status is None else os.waitstatus_to_exitcode(self.status)


@dataclass
class Rank:
    """A process that has told that it is one."""

    pid: int
    watch: int | None  # a descriptor that is readable once it has ended; None where it cannot be seen
    asked: bool = False  # to stop
    death: Death | None = None


@dataclass
class Attempt:
    """Runs a start. `number` is among all starts of the run; `lock` a descriptor that the launcher keeps open."""

    start: Start
    number: int
    log: Path
    signals: Signals
    lock: int
    ranks: dict[int, Rank] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)  # process ids
    next_ask: float = 0.0  # of ranks on other machines to stop
    connections: int = 0  # to other machines: the most there were
    disconnected: float | None = None  # when the first of them was seen to have ended
    next_look: float = 0.0  # for what only their log tells
    next_members: float = 0.0  # look for processes

    def run(self) -> Outcome:
        """Start, wait, and leave nothing.

        Raises:
            LeftAtOnce: on a second signal. RunError: a process cannot be killed.
        """
        told = rank_log.environment(self.log, self.number)
        if self.start.elsewhere:
            with self.start.elsewhere.exported.open("a", encoding="utf-8") as file:
                file.writelines(f"{name}={value}\n" for name, value in told.items())
        environment = {**self.start.environment, **told}
        _free_shared(_noted(self.log / PROCESSES))  # of a start whose command was killed
        self.launcher = subprocess.Popen(
            leashed(self.start.command), env=environment, start_new_session=True, pass_fds=[self.lock]
        )
        try:
            while self.launcher.poll() is None and not self._must_end():
                self._wait()
                self._find_ranks()
                self._find_deaths()
                self._find_members()
                if self.signals.heard:
                    self._ask_to_stop()
        finally:
            self._end_all()
        self._find_ranks()
        if len(self.signals.heard) > 1:
            raise LeftAtOnce(self.signals.heard[1])
        return self._outcome(self.launcher.returncode)

    def _must_end(self) -> bool:
        """Whether the processes are to be killed: nothing was begun, a second signal, or what a failed rank left."""
        if self.signals.heard and (len(self.signals.heard) > 1 or not self.ranks):
            return True
        deaths = [rank.death for rank in self.ranks.values() if rank.death]
        failed = [death.time for death in deaths if not death.well]
        if self.disconnected and len(failed) == len(deaths):
            failed.append(self.disconnected + DISCONNECTED_SECONDS)
        return bool(failed) and time.time() > min(failed) + LINGER_SECONDS

    def _wait(self) -> None:
        """Until a rank ends, a signal comes, or some time has passed."""
        watches = [rank.watch for rank in self.ranks.values() if rank.watch is not None and not rank.death]
        poll = select.poll()
        for descriptor in [*watches, *([] if self.signals.heard else [self.signals.reader])]:
            poll.register(descriptor, select.POLLIN)
        poll.poll(1000 * LOOK_SECONDS)

    def _find_ranks(self) -> None:
        """Those that have told of themselves since."""
        if len(self.ranks) == self.start.world_size:
            return
        for number, events in rank_log.read_events(self.log, self.number).items():
            if number not in self.ranks:
                pid = events[0].get("pid", 0)  # its first word may be of its end, or lost to a full disk
                watch = None if self.start.elsewhere else self._watch(pid)
                gone = pid and watch is None and not self.start.elsewhere  # before it could be seen
                death = Death(time.time(), None, well=self._ended_well(number)) if gone else None
                self.ranks[number] = Rank(pid, watch, death=death)

    def _watch(self, pid: int) -> int | None:
        with suppress(ProcessLookupError):
            if pid and os.getsid(pid) == self.launcher.pid:
                return os.pidfd_open(pid)
        return None

    def _find_deaths(self) -> None:
        if self.start.elsewhere:
            self._find_deaths_elsewhere()
        for number, rank in self.ranks.items():
            if rank.watch is not None and not rank.death and select.select([rank.watch], [], [], 0)[0]:
                rank.death = Death(time.time(), _status(rank.pid), well=self._ended_well(number))

    def _find_deaths_elsewhere(self) -> None:
        """What has been told of them, and whether a connection has ended, which a rank that is alive keeps open."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + ELSEWHERE_SECONDS
        for number, events in rank_log.read_events(self.log, self.number).items():
            if number in self.ranks and events[-1]["event"] == "end" and not self.ranks[number].death:
                code = events[-1]["code"]
                self.ranks[number].death = Death(time.time(), code << 8, well=code == 0)
        connections = _descendants(self.launcher.pid, "ssh")
        if len(connections) < self.connections and self.disconnected is None:
            self.disconnected = time.time()
        self.connections = max(self.connections, len(connections))

    def _ask_to_stop(self) -> None:
        """Each rank once: a second signal would end it without a checkpoint."""
        if self.start.elsewhere and time.monotonic() >= self.next_ask:
            reached = self.start.elsewhere.signal(STOP)
            self.next_ask = float("inf") if reached else time.monotonic() + ASK_SECONDS
        for rank in self.ranks.values():
            if rank.watch is not None and not rank.asked and not rank.death:
                rank.asked = True
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(rank.watch, STOP)

    def _end_all(self) -> None:
        """Kill what is left, also what is stopped or ignores signals, and wait until it is gone."""
        deadline = time.monotonic() + END_SECONDS
        if self.start.elsewhere and self.launcher.poll() not in (0, Stopped.exit_code):
            self.start.elsewhere.signal(signal.SIGKILL)
        while left := [pid for pid in self._members() if self.launcher.poll() is None or pid != self.launcher.pid]:
            if time.monotonic() > deadline:
                raise RunError(f"process {left[0]} was killed and does not end; see to it before you go on")
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        self.launcher.wait()
        for rank in self.ranks.values():
            if rank.watch is not None:
                os.close(rank.watch)
        _free_shared(self.seen)

    def _find_members(self) -> None:
        """Note them now and then: a killed rank's loader workers die with it, and what they shared has their number."""
        if time.monotonic() >= self.next_members:
            self.next_members = time.monotonic() + MEMBERS_SECONDS
            self._members()

    def _members(self) -> list[int]:
        """The live processes of the launcher's session: it, the ranks, and their loader workers."""
        found = []
        for pid in psutil.pids():
            with suppress(ProcessLookupError, psutil.Error):
                if os.getsid(pid) == self.launcher.pid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    found.append(pid)
        if not self.seen.issuperset(found):
            self.seen.update(found)
            with suppress(OSError):
                (self.log / PROCESSES).write_text("\n".join(map(str, self.seen)))
        return found

    def _ends(self) -> dict[int, rank_log.Event]:
        """What the ranks that could tell have told of their ends."""
        events = rank_log.read_events(self.log, self.number)
        return {rank: of_rank[-1] for rank, of_rank in events.items() if of_rank[-1]["event"] == "end"}

    def _ended_well(self, number: int) -> bool:
        return self._ends().get(number, {}).get("code") == 0

    def _outcome(self, code: int) -> Outcome:
        ends = self._ends()
        if code == 0 and sum(end["code"] == 0 for end in ends.values()) == self.start.world_size:
            return Outcome(0)
        by_signal = 256 - code if code > KILLED else 0
        silent = {number: rank.death for number, rank in self.ranks.items() if number not in ends}
        seen = {number: death for number, death in silent.items() if death and death.status}
        failures = [(end["time"], _told(self.log, rank, end)) for rank, end in ends.items() if end["code"]]
        for number, death in seen.items():
            if (status := death.exit_code()) and (-status not in ASKED or -status == by_signal):
                later = 0 if status == LATER else DEATH_SECONDS
                failures.append((death.time - later, _died(f"rank {number}", status)))
        for number, left in silent.items():
            if left and left.status == 0:
                reason = f"rank {number} ended with exit code 0 amid the run"
                failures.append((left.time - DEATH_SECONDS, Outcome(RunError.exit_code, reason, True, users=False)))
        unseen = [number for number in silent if number not in seen]
        who = f"rank {unseen[0]}" if len(unseen) == 1 else "a rank"
        if by_signal and by_signal not in (*ASKED, -LATER) and all(d.exit_code() != -by_signal for d in seen.values()):
            return _died(who, -by_signal)  # the launcher was quicker to see it
        if failures:
            return min(failures, key=lambda failure: failure[0])[1]
        if self.signals.heard:
            return _stopped()
        if by_signal or (code > 0 and unseen):
            return _died(who, -by_signal or code)
        if lost := min(((death.time, number) for number, death in silent.items() if death), default=None):
            return Outcome(RunError.exit_code, f"rank {lost[1]} ended without a word", restart=True, users=False)
        return Outcome(code or RunError.exit_code, f"the launcher ended with exit code {code}", code not in FINAL)


def _noted(path: Path) -> set[int]:
    """The process ids in a file, if there is one."""
    with suppress(OSError):
        return {int(word) for word in path.read_text().split() if word.isdecimal()}
    return set()


def _free_shared(pids: set[int]) -> None:
    """Unlink what torch shares of processes that are gone: those killed between making and unlinking it leave it."""
    for pid in pids:
        if not psutil.pid_exists(pid):
            for path in Path("/dev/shm").glob(f"torch_{pid}_*"):  # noqa: S108  (it is where torch makes them)
                with suppress(OSError):  # another user's, whose process had that number
                    path.unlink()


def _descendants(pid: int, name: str) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True) if child.name() == name]
    except psutil.Error:
        return []


def _status(pid: int) -> int | None:
    """How a process ended, while its parent has not asked yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return int(fields[-1]) if state == "Z" else None


def _told(log: Path, number: int, end: rank_log.Event) -> Outcome:
    message = " ".join(end["message"].split())
    if not end["users"]:
        message = f"rank {number}: {end['type']}: {message[:500]}; its traceback is in {rank_log.log_of(log, number)}"
    return Outcome(end["code"], message, end["restart"], end["users"])


def _died(who: str, code: int) -> Outcome:
    """Of a rank that could not tell, by its exit code, or −signal."""
    if code < 0:
        return _killed(who, -code)
    return Outcome(code, f"{who} ended with exit code {code}", code not in FINAL, users=False)


def _killed(who: str, number: int) -> Outcome:
    if number in ASKED:
        return _stopped()
    return Outcome(
        RunError.exit_code,
        f"{who} was killed by signal {number} ({signal.strsignal(number)})",
        restart=True,
        users=False,
    )


def _stopped() -> Outcome:
    return Outcome(Stopped.exit_code, "stopped before the first step of this start; run it again to go on")
