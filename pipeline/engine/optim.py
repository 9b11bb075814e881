"""The optimizers, and the schedule of their rate: a function of the step alone."""

import torch
from torch import nn

from pipeline.engine.lamb import Lamb
from pipeline.engine.muon import Muon
from pipeline.engine.optim_config import AdamWConfig, LambConfig, OptimizerConfig, ScheduleConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer of a model's parameters. LAMB and Muon must be told where DeepSpeed put them (`bind`)."""
    if isinstance(config, AdamWConfig):
        return adamw(model, config)
    return Lamb(model, config) if isinstance(config, LambConfig) else Muon(model, config)


def adamw(model: nn.Module, config: AdamWConfig) -> torch.optim.AdamW:
    """AdamW as in RoBERTa (table 9): weight decay on matrices, none on biases and norms.

    Fused: `python -m benchmarks.optimizer` shows it to be three to six times as fast on a CPU as the others.
    A group's `states` names what the optimizer keeps of each element, for checkpoints.
    """
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    states = {"states": ("exp_avg", "exp_avg_sq")}
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay, **states},
        {"params": others, "weight_decay": 0.0, **states},
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=config.eps, fused=True)


def learning_rate(step: int, optimizer: OptimizerConfig, schedule: ScheduleConfig) -> float:
    """The rate of the update that ends step `step` (from 0): linear warm-up, then linear decay to zero.

    It stays there behind the last step, where a profile may take some more.
    """
    done = step + 1
    if done <= schedule.warmup_steps:
        return optimizer.learning_rate * done / schedule.warmup_steps
    if done > schedule.total_steps:
        return 0.0
    left = (schedule.total_steps - step) / (schedule.total_steps - schedule.warmup_steps)
    return optimizer.learning_rate * left
