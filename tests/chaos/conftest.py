"""What the ranks of a file's tests were forked from ends with that file: it has all of torch in memory."""

from collections.abc import Iterator
from multiprocessing import forkserver

import pytest


@pytest.fixture(autouse=True, scope="module")
def nothing_to_fork_from_is_left() -> Iterator[None]:
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
