"""A snapshot of what a GPU holds: the host does not wait for the copy, and what follows it is not in it."""

import pytest
import torch

from pipeline.checkpoints.snapshot import Snapshot
from pipeline.engine.engine import Fragment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def test_what_the_gpu_changes_behind_it_is_not_in_it() -> None:
    weight, snapshot = torch.randn(2**24, device="cuda"), Snapshot()
    for _ in range(2):
        expected = weight.cpu().numpy().tobytes()
        snapshot.take([Fragment("w", 0, {"weight": weight})])
        weight.add_(1)
        assert b"".join(snapshot.blocks()).endswith(expected)
    assert snapshot.values is not None
    assert snapshot.values.is_pinned()
