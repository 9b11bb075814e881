"""What ends with what: the launcher's children with it, and a rank with the connection that it was started by."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from launch.rank import look_after
from pipeline.watching import rank_log

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
LOOK_AFTER = """\
import os, signal, sys
from launch.rank import STOP, Stopping, look_after
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.dup2(writer, 1)
    os.execvp("sh", ["sh", "-c", sys.argv[1]])
os.close(writer)
stopping = Stopping(child)
signal.signal(STOP, stopping.ask)
look_after(child, {reader: 1}, stopping.ask, grace=float(sys.argv[2]))
sys.exit(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)
"""


def gone(pid: int) -> bool:
    """Wait until a process is no more."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_program_started_ends_with_it(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "launch.tether", "/bin/sh", "-c", "sleep 1000 & echo $!; exec sleep 1000"]
    program = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, start_new_session=True)
    assert program.stdout
    child = int(program.stdout.readline())
    program.send_signal(number)
    assert program.wait(60) == -number
    assert gone(child)
    program.stdout.close()


def test_a_program_that_ends_by_itself_has_its_exit_code() -> None:
    command = [sys.executable, "-m", "launch.tether", "/bin/sh", "-c", "exit 7"]
    assert subprocess.run(command, env=ENVIRONMENT, start_new_session=True, timeout=60).returncode == 7


def looked_after(script: str, grace: float) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", LOOK_AFTER, script, str(grace)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_the_end_of_the_leash_asks_a_rank_to_end() -> None:
    rank = looked_after("trap 'exit 75' USR1; echo ready; while :; do sleep 0.1; done", grace=600)
    assert rank.stdout
    assert rank.stdin
    assert rank.stdout.readline() == b"ready\n"
    rank.stdin.close()
    assert rank.wait(60) == 256 - 75
    rank.stdout.close()


def test_a_rank_that_was_asked_is_not_asked_again_when_the_leash_ends() -> None:
    """As where a command is stopped, and killed while the ranks save: a second word would end the save."""
    script = "n=0; trap 'n=$((n+1)); echo $n' USR1; echo ready; until [ -e \"$0\" ]; do sleep 0.1; done; exit $n"
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved"
        rank = looked_after(script.replace("$0", str(saved)), grace=600)
        assert rank.stdout
        assert rank.stdin
        assert rank.stdout.readline() == b"ready\n"
        rank.send_signal(signal.SIGUSR1)
        assert rank.stdout.readline() == b"1\n"
        rank.send_signal(signal.SIGUSR1)
        rank.stdin.close()
        saved.touch()
        assert rank.wait(60) == 256 - 1
        rank.stdout.close()


def test_a_rank_that_hangs_in_the_kernel_is_killed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the kernel lets go of it, there is nothing to do, again and again."""
    child = subprocess.Popen(["sleep", "600"])
    killed, poll, kill = [], select.poll, os.kill

    class Poll:
        """Wakes as if by the time that is up, and lets the child end behind the third time."""

        def __init__(self) -> None:
            self.real, self.times = poll(), 0
            self.register, self.unregister = self.real.register, self.real.unregister

        def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
            self.times += 1
            if self.times == 3:
                kill(child.pid, signal.SIGKILL)
            return self.real.poll(100 if self.times < 3 else milliseconds)

    monkeypatch.setattr(select, "poll", Poll)
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    leash, writer = os.pipe()
    os.close(writer)
    look_after(child.pid, {}, lambda: None, leash, grace=0.0)
    assert killed == [(child.pid, signal.SIGKILL)]
    assert child.wait(60) == -signal.SIGKILL
    os.close(leash)


def test_a_rank_that_does_not_end_is_killed() -> None:
    rank = looked_after("trap '' USR1; echo ready; while :; do sleep 0.1; done", grace=0.1)
    assert rank.stdout
    assert rank.stdin
    assert rank.stdout.readline() == b"ready\n"
    rank.stdin.close()
    assert rank.wait(60) == signal.SIGKILL
    rank.stdout.close()


def test_a_rank_whom_nobody_reads_goes_on_and_its_last_words_are_heard() -> None:
    spoken = looked_after("for i in 1 2 3; do echo $i; done; head -c 300000 /dev/zero; exit 4", grace=600)
    assert spoken.stdout
    assert spoken.stdout.read() == b"1\n2\n3\n" + bytes(300000)
    assert spoken.wait(60) == 256 - 4
    spoken.communicate()
    unread = looked_after("echo ready; read -r line < /dev/null; head -c 300000 /dev/zero && exit 4", grace=600)
    assert unread.stdout
    assert unread.stdin
    unread.stdout.close()
    assert unread.wait(60) == 256 - 4
    unread.stdin.close()


@pytest.mark.parametrize("status", [signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM, 0, 75 << 8])
def test_who_looks_after_a_rank_ends_like_it_and_notes_a_death(status: int, tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, **rank_log.environment(tmp_path, 3), "RANK": "1"}
    script = f"from launch.rank import end_like; end_like({int(status)})"
    done = subprocess.run([sys.executable, "-c", script], env=environment, timeout=60)
    assert done.returncode == os.waitstatus_to_exitcode(status)
    noted = [(event["code"], event["message"]) for event in rank_log.read_events(tmp_path, 3).get(1, [])]
    killed = (1, "rank 1 was killed by signal 9 (Killed)")
    stopped = (75, "stopped before the first step of this start; run it again to go on")
    assert noted == {int(signal.SIGKILL): [killed], int(signal.SIGUSR1): [stopped]}.get(int(status), [])
