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

SHORT = [(2, 3), (1, 6), (4, 9), (2, 12)]  # ranks, and the step that they come to
LONG = [(2, 10), (1, 30), (4, 50), (2, 70)]
MICRO_BATCHES = 8
SETTINGS = ["checkpoint.every_steps=5", "optimizer.learning_rate=1e-3", "evaluation.every_steps=70"]


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

    def bytes(self, steps: int) -> bytes:
        assert sorted(self.lines) == list(range(steps * MICRO_BATCHES))
        return "".join(f"{self.lines[index]}\n" for index in sorted(self.lines)).encode()


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in logged(run) if line["event"] == "train"]


@pytest.mark.parametrize(
    ("phases", "end"),
    [
        pytest.param(SHORT, "stopped", id="stopped"),
        pytest.param(LONG, "stopped", id="stopped, 20 steps each", marks=pytest.mark.chaos),
        pytest.param(LONG, "killed", id="killed, 20 steps each", marks=pytest.mark.chaos),
    ],
)
def test_the_samples_do_not_depend_on_the_ranks(tmp_path: Path, phases: list[tuple[int, int]], end: str) -> None:
    corpus, whole, last = tiny_corpus(tmp_path / "corpus"), Log(tmp_path / "whole-log"), phases[-1][1]
    settings = [*SETTINGS, f"schedule.total_steps={last}"]
    config = resolved(corpus, tmp_path / "whole", overrides=settings)
    assert whole.start(config, 2).codes == [0, 0]

    changed = Log(tmp_path / "changed-log")
    for ranks, step in phases:
        stop = [f"stop_at_step={step}"] if end == "stopped" and step < last else []
        config = resolved(corpus, tmp_path / "changed", overrides=[*settings, *stop])
        watches = {}
        if end == "killed" and step < last:
            watches = {0: Watch(config.parent, tmp_path / "calls", kill_at=f".*{step:08d}.*")}  # in its save
        ended = changed.start(config, ranks, watches)
        assert ended.codes[0] == (0 if step == last else 75 if stop else -9), ended
    assert changed.bytes(last) == whole.bytes(last)
    assert losses(tmp_path / "changed") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
