"""Shares against their limits, exactly: a limit is the decimal number that was written, not the float beside it.

In floats 1 − 7/10 is more than 0.3, and 0.29 × 100 less than 29.
"""

from fractions import Fraction
from functools import lru_cache


@lru_cache
def _written(limit: float) -> Fraction:
    return Fraction(str(limit))


def over(part: int, whole: int, limit: float) -> bool:
    """Whether `part` is more than `limit` of `whole`; nothing of nothing is not."""
    return part > _written(limit) * whole


def under(part: int, whole: int, limit: float) -> bool:
    """Whether `part` is less than `limit` of `whole`; nothing of nothing is not."""
    return part < _written(limit) * whole
