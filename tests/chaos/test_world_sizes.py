"""A run that changes its ranks, 2 → 1 → 4 → 2, reads what one that does not reads, sample for sample (law 1)."""

import itertools
from functools import partial
from pathlib import Path

import pytest

from tests.chaos import forked
from tests.chaos.calls import Watch
from tests.chaos.recorded import recording
from tests.chaos.runs import logged, resolved
from tests.tiny import tiny_corpus

PHASES = [(2, 10), (1, 30), (4, 50), (2, 70)]  # ranks, and the step that they come to
STEPS, MICRO_BATCHES = 70, 8
SETTINGS = [f"schedule.total_steps={STEPS}", "checkpoint.every_steps=5", "optimizer.learning_rate=1e-3"]
SETTINGS += ["evaluation.every_steps=70"]


class Log:
    """The micro-batches of a run over all its starts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lines = folder, dict[int, str]()
        self.starts = itertools.count()

    def start(self, config: Path, ranks: int, watches: dict[int, Watch] | None = None) -> forked.Ended:
        """Start the run's ranks, and add what they computed. What is done again must be what it was."""
        folder = self.folder / f"start-{next(self.starts)}"
        folder.mkdir(parents=True)
        ended = forked.start(config, ranks, watches, partial(recording, folder)).finish()
        lines = [line for rank in range(ranks) for line in (folder / str(rank)).read_text().splitlines()]
        new = {int(line.split()[0]): line for line in lines}
        assert len(new) == len(lines), "a micro-batch was computed twice"
        assert all(self.lines.get(index, line) == line for index, line in new.items())
        self.lines |= new
        return ended

    def bytes(self) -> bytes:
        assert sorted(self.lines) == list(range(STEPS * MICRO_BATCHES))
        return "".join(f"{self.lines[index]}\n" for index in sorted(self.lines)).encode()


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in logged(run) if line["event"] == "train"]


@pytest.mark.parametrize("end", ["stopped", pytest.param("killed", marks=pytest.mark.chaos)])
def test_the_samples_do_not_depend_on_the_ranks(tmp_path: Path, end: str) -> None:
    corpus, whole = tiny_corpus(tmp_path / "corpus"), Log(tmp_path / "whole-log")
    config = resolved(corpus, tmp_path / "whole", overrides=SETTINGS)
    assert whole.start(config, 2).codes == [0, 0]

    changed = Log(tmp_path / "changed-log")
    for ranks, step in PHASES:
        stop = [f"stop_at_step={step}"] if end == "stopped" and step < STEPS else []
        config = resolved(corpus, tmp_path / "changed", overrides=[*SETTINGS, *stop])
        watches = {}
        if end == "killed" and step < STEPS:
            watches = {0: Watch(config.parent, tmp_path / "calls", kill_at=f".*{step:08d}.*")}  # in its save
        ended = changed.start(config, ranks, watches)
        assert ended.codes[0] == (0 if step == STEPS else 75 if stop else -9), ended
    assert changed.bytes() == whole.bytes()
    assert losses(tmp_path / "changed") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
