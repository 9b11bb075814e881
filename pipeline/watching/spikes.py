"""Spikes of a loss or a gradient norm: far above what the last steps had.

Far is measured from the median of a window in robust standard deviations (1.4826 · the median distance from it,
Rousseeuw & Croux 1993): neither moves with the spike itself, so a second one is not hidden by the first.
"""

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

ROBUST = 1.4826  # makes the median distance of normally distributed values their standard deviation
SMALLEST = 1e-3  # of the median: what differs by less has not changed, however quiet the window was


@dataclass(frozen=True)
class Spike:
    """A value, and how it stands out."""

    name: str
    value: float
    median: float
    sigmas: float
    first: bool  # the value before it was none


class Window:
    """The last values of one series.

    Args:
        name: of the series. size: values; half of them must be there before one is judged.
        sigmas: how far above the median a spike begins.
    """

    def __init__(self, name: str, size: int, sigmas: float) -> None:
        self.name, self.sigmas = name, sigmas
        self.values: deque[float] = deque(maxlen=size)
        self.high = False

    def add(self, value: float) -> Spike | None:
        """Judge a value by those before it, and keep it. What is not finite is for the guard and not kept."""
        if not math.isfinite(value):
            return None
        spike = None
        if 2 * len(self.values) >= (self.values.maxlen or 0):
            middle = median(self.values)
            deviation = max(ROBUST * median(abs(one - middle) for one in self.values), SMALLEST * abs(middle), 1e-30)
            distance = (value - middle) / deviation
            if distance > self.sigmas:
                spike = Spike(self.name, value, middle, distance, first=not self.high)
        self.high = spike is not None
        self.values.append(value)
        return spike
