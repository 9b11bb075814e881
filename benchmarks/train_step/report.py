"""From the steps of each run to medians, ratios and a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

Steps = Sequence[dict[str, Any]]  # one run's steps: `step_seconds`, `peak_memory_bytes`; ours has `mfu` too


@dataclass(frozen=True)
class Run:
    """One side in one round, its warm-up left out of all but the peak."""

    seconds: float  # median of the steps
    peak: int
    mfu: float | None = None

    @classmethod
    def of(cls, steps: Steps, warm_up: int) -> "Run":
        counted = steps[warm_up:]
        shares = [step["mfu"] for step in counted if step.get("mfu") is not None]
        peak = max(step["peak_memory_bytes"] for step in steps)
        return cls(median(step["step_seconds"] for step in counted), peak, median(shares) if shares else None)


Rounds = dict[str, list[Run]]  # side → its run in each round


def speed_ratio(rounds: Rounds, side: str, other: str) -> float:
    """Times the other's tokens/s: the median over the rounds, each of which ran both one after the other."""
    return median(b.seconds / a.seconds for a, b in zip(rounds[side], rounds[other], strict=True))


def memory_ratio(rounds: Rounds, side: str, other: str) -> float:
    """The median peak as a share of the other's."""
    return median(run.peak for run in rounds[side]) / median(run.peak for run in rounds[other])


def utilisation(rounds: Rounds, side: str) -> float | None:
    """Model FLOPs utilisation of a side: ours is measured, and the others do the same model FLOPs a step."""
    found = [
        mine.mfu * mine.seconds / run.seconds
        for mine, run in zip(rounds["ours"], rounds[side], strict=True)
        if mine.mfu is not None
    ]
    return median(found) if found else None


def table(title: str, rounds: Rounds, tokens: int, memory: bool, mfu: bool) -> Table:
    """A row a side.

    Args:
        tokens: of a step. memory, mfu: whether to show them.
    """
    made = Table(title, "tokens/s", "ours is", *(["peak"] if memory else []), *(["MFU"] if mfu else []))
    for side, runs in rounds.items():
        cells = [side, f"{tokens / median(run.seconds for run in runs):,.0f}"]
        cells.append("" if side == "ours" else f"{speed_ratio(rounds, 'ours', side):.2f} ×")
        if memory:
            cells.append(f"{median(run.peak for run in runs) / 1e6:,.0f} MB")
        if mfu:
            share = utilisation(rounds, side)
            cells.append("unknown" if share is None else f"{share:.1%}")
        made.add_row(*cells)
    return made
