"""LAMB (You et al. 2020, algorithm 2): Adam's update, each matrix's as long as the matrix itself, times the rate.

Here as the authors trained BERT: φ is the identity, nothing is clamped, and the ratio is 1 where a norm is 0. Biases
and norms neither decay nor are rescaled, as in their code (`exclude_from_layer_adaptation`): a bias begins at zero,
where a ratio of norms says nothing, and a tenth of a norm's gain is no tenth of what it does.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.engine.layout import Layout, working_device
from pipeline.engine.optim_config import LambConfig
from pipeline.engine.sharded_optimizer import ShardedOptimizer, adamw_

ROW = 4096


class Lamb(ShardedOptimizer):
    def __init__(self, model: nn.Module, config: LambConfig) -> None:
        named = list(model.named_parameters())
        decayed = [(name, p) for name, p in named if p.ndim >= 2]
        others = [(name, p) for name, p in named if p.ndim < 2]
        states = ("exp_avg", "exp_avg_sq")
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": config.weight_decay, "states": states, "whole_matrices": True},
            {"params": others, "weight_decay": 0.0, "states": states, "whole_matrices": False},
        ]
        defaults = {"lr": config.learning_rate, "betas": (config.beta1, config.beta2), "eps": config.eps}
        super().__init__(groups, defaults)

    def update_matrices(self, master: Tensor, group: dict[str, Any]) -> None:
        assert master.grad is not None
        update = torch.zeros_like(master)  # AdamW at rate 1 from zero leaves −m̂ ÷ (√v̂ + ε), in one pass over memory
        adamw_([update], [master.grad], [self.state[master]], 1.0, group["betas"], group["eps"], 0.0)
        update.sub_(master, alpha=group["weight_decay"])
        layout = self.layouts[master]
        parts = layout.parts(update)
        for part, ratio in zip(parts, trust_ratios(layout, layout.parts(master), parts), strict=True):
            part.mul_(ratio)
        master.add_(update, alpha=group["lr"])


def trust_ratios(layout: Layout, weights: list[Tensor], updates: list[Tensor]) -> Tensor:
    """‖w‖ ÷ ‖update‖ of each whole matrix, (M,) fp32; where they are sharded, by one all-reduce of 2·M numbers."""
    squares = torch.stack([sum_of_squares(part) for part in weights + updates])
    if layout.sharded:
        squares = squares.to(working_device())
        dist.all_reduce(squares)
        squares = squares.to(weights[0].device)
    weight, update = squares.sqrt().view(2, -1)
    return torch.where((weight > 0) & (update > 0), weight / update, 1.0).float()


def sum_of_squares(part: Tensor) -> Tensor:
    """In fp64, of a one-dimensional fp32 tensor, right to 1e-8 however the whole is cut.

    On a CPU PyTorch's fp32 norm of four million elements is wrong by 8e-5 and its fp64 norm takes fifty times as long:
    here rows are summed in fp32 and their sums in fp64.
    """
    whole = len(part) // ROW * ROW
    rows = torch.linalg.vector_norm(part[:whole].view(-1, ROW), dim=1)
    rest = torch.linalg.vector_norm(part[whole:])[None]
    return torch.cat([rows, rest]).double().square().sum()
