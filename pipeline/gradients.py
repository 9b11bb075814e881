"""The gradient of a whole step, where DeepSpeed keeps it between the last backward pass and the update."""

import logging

import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from torch import Tensor

from pipeline.engine import Engine


def held(engine: Engine) -> list[Tensor]:
    """This rank's share of the gradient, reduced and before clipping: over all ranks each element once."""
    optimizer = engine.deepspeed.optimizer
    if engine.stage == 0:  # every rank has all of it
        found = [parameter.grad for parameter in engine.model.parameters() if parameter.grad is not None]
        return found[torch.distributed.get_rank() :: engine.world_size]
    if isinstance(optimizer, BF16_Optimizer):
        return list(optimizer.fp32_groups_gradient_flat_partition)
    if engine.offloads_optimizer:
        get_accelerator().synchronize()  # they are on their way to the host
        return [master.grad for master in engine.masters if master.grad is not None]
    return [tensor for group in optimizer.averaged_gradients.values() for tensor in group]


def squared_norm(gradients: list[Tensor], device: torch.device) -> Tensor:
    """Sum of squares, a float64 scalar on the device; not finite when an element is not, or is over 1e19."""
    if not gradients:
        return torch.zeros((), dtype=torch.float64, device=device)
    return torch.stack(torch._foreach_norm(gradients)).double().square().sum().to(device)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def discard(engine: Engine) -> None:
    """End the step without an update: weights and optimizer states stay as they are, to the last bit.

    DeepSpeed itself drops a step whose norm is not finite, from stage 1 on; so it is told that this one's is not, also
    where only the loss was.
    """
    optimizer = engine.deepspeed.optimizer
    if engine.stage == 0:
        engine.deepspeed.zero_grad()
        engine.deepspeed.micro_steps += 1
        return
    logger = logging.getLogger("DeepSpeed")
    logger.addFilter(_nothing)  # it warns of what has been told
    if isinstance(optimizer, BF16_Optimizer):  # it looks for itself
        for gradient in held(engine):
            gradient.fill_(torch.inf)
    engine.step(0.0, torch.inf)
    logger.removeFilter(_nothing)
    assert not engine.deepspeed.was_step_applied()
