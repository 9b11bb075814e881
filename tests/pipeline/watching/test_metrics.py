"""What a run says of itself: whole lines of JSON at once, and nothing from the other ranks."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoints.run_folder import RunFolder
from pipeline.samples.position import Position
from pipeline.watching.guard import GuardConfig
from pipeline.watching.metrics import Metrics

VALUES = {"loss": 2.5, "tokens_per_second": 1234.5, "mfu": None, "grad_norm": 0.5}


def lines_of(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def test_each_event_is_on_disk_at_once(tmp_path: Path) -> None:
    """A killed run has logged what it did: nothing waits in a buffer for `close`."""
    run = RunFolder(tmp_path)
    metrics = Metrics(run, 0, 40)
    metrics.train(1, VALUES)
    assert lines_of(run) == [{"event": "train", "step": 1, **VALUES}]
    metrics.evaluation(1, 3.5)
    assert lines_of(run)[1:] == [{"event": "eval", "step": 1, "loss": 3.5}]
    metrics.close()


def test_a_resumed_run_appends(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2):
        metrics = Metrics(run, step - 1, 40)
        metrics.train(step, VALUES)
        metrics.close()
    assert [line["step"] for line in lines_of(run)] == [1, 2]


def spikes_of(run: RunFolder) -> list[tuple[int, str]]:
    return [(line["step"], line["of"]) for line in lines_of(run) if line["event"] == "spike"]


def test_spikes_are_events_and_the_first_of_a_row_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path)
    metrics = Metrics(run, 0, 1000)
    for step in range(1, 51):
        metrics.train(step, VALUES)
    metrics.close()
    metrics = Metrics(run, 50, 1000)  # the window is that of a run that never stopped
    metrics.train(51, {**VALUES, "grad_norm": 0.51})
    metrics.train(52, {**VALUES, "loss": 5.0})
    metrics.train(53, {**VALUES, "loss": 6.0})
    metrics.train(54, VALUES)
    metrics.close()
    assert spikes_of(run) == [(51, "grad_norm"), (52, "loss"), (53, "loss")]
    spike = next(line for line in lines_of(run) if line["event"] == "spike" and line["of"] == "loss")
    assert (spike["value"], spike["median"]) == (5.0, 2.5)
    assert spike["sigmas"] > 6
    printed = [line for line in capsys.readouterr().out.splitlines() if "spike" in line]
    assert printed == [
        "step 51/1000  spike: grad_norm 0.51, 20.0 sigma above the median 0.5 of the last 100 steps",
        "step 52/1000  spike: loss 5, 1000.0 sigma above the median 2.5 of the last 100 steps",
    ]


def test_a_spike_is_told_once_wherever_the_run_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """30 is one by the four steps before it and would be none by three of them; so 1000 is not the first of its row."""
    losses, guard = [9.0, 9.0, 1.0, 9.0, 1.0, 5.0, 30.0, 1000.0], GuardConfig(spike_window=4)
    for stopped in range(len(losses)):
        run = RunFolder(tmp_path / str(stopped))
        run.path.mkdir()
        for steps in (range(stopped), range(stopped, len(losses))):
            metrics = Metrics(run, steps.start, 1000, guard)
            for step in steps:
                metrics.train(step + 1, {**VALUES, "loss": losses[step]})
            metrics.close()
        said = [line for line in capsys.readouterr().out.splitlines() if "spike: loss" in line]
        assert [line.partition("/")[0] for line in said] == ["step 7"], stopped


def test_a_roll_back_is_remembered_and_what_it_undid_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path)
    metrics = Metrics(run, 0, 40)
    for step in (1, 2, 3):
        metrics.train(step, VALUES)
    metrics.skipped(Position(4, 0, 1), "the loss is nan on rank 1", 1)
    assert lines_of(run)[-1] == {
        "event": "skipped",
        "step": 4,
        "data_step": 3,
        "reason": "the loss is nan on rank 1",
        "in_a_row": 1,
        "skipped_steps": 1,
    }
    metrics.rolled_back(Position(4, 0, 1), Position(2, 2))
    back = {"event": "rollback", "step": 2, "from_step": 4, "jumps": 2, "data_step": 4}
    assert [line["step"] for line in lines_of(run)] == [1, 2, 2]
    assert lines_of(run)[-1] == back
    metrics.skipped(Position(3, 2, 1), "the loss is nan on rank 0", 1)
    metrics.rolled_back(Position(3, 2, 1), Position(2, 3))
    again = {"event": "rollback", "step": 2, "from_step": 3, "jumps": 3, "data_step": 5}
    assert lines_of(run)[2:] == [back, again]  # a second one to the same checkpoint
    metrics.train(3, VALUES)
    metrics.close()
    assert "step 4/40  skipped on all ranks: the loss is nan on rank 1 (1 in a row)" in capsys.readouterr().out
    Metrics(run, 3, 40).close()
    assert lines_of(run)[-3:-1] == [back, again]
    Metrics(run, 2, 40).close()  # a restart from that checkpoint will meet the same data
    assert [line["event"] for line in lines_of(run)] == ["train", "train"]


def test_an_overflow_is_an_event_and_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, values = RunFolder(tmp_path), {"loss_scale": 65536.0, "overflows": 2, "skipped_steps": 3}
    Metrics(run, 0, 40).overflow(Position(5, 2, 0), values)
    assert lines_of(run) == [{"event": "overflow", "step": 5, "data_step": 6, **values}]
    said = "step 5/40  skipped on all ranks: its gradient is too large for fp16 at the loss scale 65,536"
    assert said in capsys.readouterr().out.splitlines()


def test_a_log_gets_a_line_now_and_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal: every twentieth part of the run and the last step, not each of a million steps."""
    metrics = Metrics(RunFolder(tmp_path), 0, 101)
    for step in range(1, 101):
        metrics.train(step, VALUES)
    metrics.train(101, {**VALUES, "mfu": 0.4567})
    metrics.close()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 21
    assert printed[0] == "step 5/101  loss 2.5000  1,234 tokens/s"
    assert printed[-1] == "step 101/101  loss 2.5000  1,234 tokens/s  45.7 % MFU"


def test_messages_are_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics(RunFolder(tmp_path), 0, 10)
    metrics.say("saved [bold]step-1[/bold] [/]")
    metrics.close()
    assert capsys.readouterr().out == "saved [bold]step-1[/bold] [/]\n"


def test_other_ranks_are_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = Metrics(None, 0, 1)
    metrics.train(1, VALUES)
    metrics.evaluation(1, 3.5)
    metrics.say("hello")
    metrics.close()
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
