"""The gradient of a whole step, where DeepSpeed keeps it between the last backward pass and the update."""

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
