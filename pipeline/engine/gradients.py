"""The gradient of a whole step, where DeepSpeed keeps it between the last backward pass and the update."""

import logging

import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from torch import Tensor

from pipeline.engine.engine import Engine


def held(engine: Engine) -> list[Tensor]:
    """This rank's share of the gradient, reduced and before clipping: over all ranks each element once.

    In fp16 it is the gradient times the loss scale.
    """
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


def squared_norm(engine: Engine) -> Tensor:
    """Sum of squares of what `held` gives, without a loss scale: a float64 scalar on the device.

    It is not finite when an element is not, or is over 1e19.
    """
    gradients, device = held(engine), engine.deepspeed.device
    if not gradients:
        return torch.zeros((), dtype=torch.float64, device=device)
    square = torch.stack(torch._foreach_norm(gradients)).double().square().sum().to(device)
    return square / engine.loss_scale.value**2 if engine.loss_scale else square


def _nothing(record: logging.LogRecord) -> bool:
    return False


def discard(engine: Engine) -> None:
    """End the step without an update: weights and optimizer states stay as they are, to the last bit.

    DeepSpeed itself drops a step whose norm is not finite, from stage 1 on; so it is told that this one's is not, also
    where only the loss was. The loss scale stays too.
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
    if engine.stage in (1, 2) and not isinstance(optimizer, BF16_Optimizer):
        # In a half precision with an offloaded optimizer it keeps the sums, and would add to what was not finite.
        optimizer.averaged_gradients.update(dict.fromkeys(optimizer.averaged_gradients))
    logger.removeFilter(_nothing)
    assert not engine.deepspeed.was_step_applied()
