"""The arithmetic of benchmarks.train_step, and that its sides run; no time is judged."""

import subprocess
import sys

import pytest
from rich.console import Console

from benchmarks.train_step.report import Run, memory_ratio, speed_ratio, table, utilisation
from benchmarks.train_step.settings import SETTINGS

ROUNDS = {
    "ours": [Run(1.0, 300, 0.4), Run(2.0, 300, 0.2), Run(1.0, 300, 0.4)],
    "trainer": [Run(2.0, 500), Run(3.0, 500), Run(1.5, 600)],
    "bare": [Run(0.9, 200), Run(1.8, 200), Run(0.9, 200)],
}


def step(seconds: float, peak: int, mfu: float | None) -> dict[str, float | None]:
    return {"step_seconds": seconds, "peak_memory_bytes": peak, "mfu": mfu}


def test_a_run_is_the_median_behind_its_warm_up_and_its_peak_is_of_all() -> None:
    steps = [step(9.0, 7, 0.1), step(1.0, 5, 0.3), step(3.0, 5, 0.1), step(2.0, 5, 0.2)]
    assert Run.of(steps, 1) == Run(2.0, 7, 0.2)
    assert Run.of([step(1.0, 5, None)], 0) == Run(1.0, 5, None)


def test_ratios_are_medians_over_the_rounds() -> None:
    assert speed_ratio(ROUNDS, "ours", "trainer") == 1.5
    assert speed_ratio(ROUNDS, "ours", "bare") == pytest.approx(0.9)
    assert memory_ratio(ROUNDS, "ours", "trainer") == 0.6
    assert utilisation(ROUNDS, "trainer") == pytest.approx(0.4 * 1.0 / 2.0)
    assert utilisation({"ours": [Run(1.0, 1)]}, "ours") is None


def test_the_table_has_a_row_for_each_side() -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table("fp32", ROUNDS, 1000, memory=True, mfu=True))
    shown = captured.get()
    assert "1,000" in shown
    assert "1.50 ×" in shown
    assert "40.0%" in shown


def test_the_settings_are_roberta_s() -> None:
    assert SETTINGS["base"].vocabulary == SETTINGS["large-512"].vocabulary == 50_265
    assert SETTINGS["base-512"].tokens == 8 * 512
    assert all(setting.hidden % 64 == 0 for setting in SETTINGS.values())


def test_ours_and_the_bare_loop_run() -> None:
    command = [sys.executable, "-m", "benchmarks.train_step", "tiny", "--sides", "ours", "bare", "--memory", "--mfu"]
    options = ["--rounds", "1", "--steps", "1", "--warm-up", "0"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "ours beside the bare loop: " in done.stdout
