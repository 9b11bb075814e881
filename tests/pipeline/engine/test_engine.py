"""What DeepSpeed is told of a step, without starting it."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.engine.engine import Engine


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_norm_that_deepspeed_reads_lies_on_the_host(stage: int) -> None:
    """It reads it once for a step and once more for each group that it clips: a device would be waited for."""
    optimizer = SimpleNamespace()
    engine = SimpleNamespace(
        stage=stage, loss_scale=None, deepspeed=SimpleNamespace(optimizer=optimizer, device="meta")
    )
    with Engine._told(engine, 3.0):  # type: ignore[arg-type]
        (norm,) = optimizer._get_norm_groups() if stage == 3 else [optimizer.scaled_global_norm()]
        assert norm.device.type == "cpu"
        assert norm.dtype == torch.float32
        assert float(norm) == 3.0
    assert not vars(optimizer)
