"""A rank is stopped: those that wait for it write their stacks, say who is missing, and end."""

import os
import re
import signal
from pathlib import Path

from tests.chaos import forked
from tests.chaos.runs import resolved

SETTINGS = ["schedule.total_steps=1000000", "checkpoint.every_steps=1000000", "evaluation.every_steps=1000000"]
SETTINGS += ["batch.train_batch_size=24"]
SETTINGS += ["watchdog.minutes=0.25"]  # a step takes milliseconds, but the machine may be busy


def trained(run: Path) -> int:
    """Steps that a run has logged."""
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count('"event": "train"') if metrics.is_file() else 0


def test_ranks_that_wait_for_a_stopped_one_say_where_and_end(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    group = forked.start(resolved(corpus, run, overrides=SETTINGS), 3)
    stopped = group.processes[1]

    def stop() -> None:
        if trained(run) > 2:
            os.kill(stopped.pid or 0, signal.SIGSTOP)

    ended = group.finish(meanwhile=stop, limit=420)
    assert ended.codes[1] == -signal.SIGKILL, ended  # nothing else ends it
    assert [code for code in ended.codes if code == 1], ended  # what ends first; the other may be told to
    for rank in (0, 2):
        stacks = (run / "log" / f"stacks-rank-{rank:05d}.txt").read_text()
        assert re.match(rf"== rank {rank}, step \d+, [a-z ]+: no progress for 15 s; ", stacks)
        assert re.search("in (train_step|compare_replicas)", stacks)
    assert not (run / "log" / "stacks-rank-00001.txt").exists()
    said = [line for line in "".join(ended.said).splitlines() if line.startswith("kilobatch: no progress for ")]
    assert re.search(r"ranks? (0–)?1 wrote nothing", said[0]), said  # 0 too, where it is seconds behind the other
