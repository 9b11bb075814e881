"""Ranks that are forked, as in `tests.chaos`."""

from tests.chaos.conftest import nothing_to_fork_from_is_left

__all__ = ["nothing_to_fork_from_is_left"]
