"""What a run says of itself: whole lines of JSON at once, and nothing from the other ranks."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.metrics import Metrics
from pipeline.run_folder import RunFolder

VALUES = {"loss": 2.5, "tokens_per_second": 1234.5, "mfu": None}


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
