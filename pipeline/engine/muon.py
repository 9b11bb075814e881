"""Muon (Jordan et al. 2024) for the layers' matrices, AdamW for embeddings, head, biases and norms.

The momentum of a matrix is replaced by the nearest matrix with orthogonal rows or columns (five Newton–Schulz steps),
scaled by 0.2 · √max(rows, columns): the root mean square of AdamW's updates, so that one learning rate and weight decay
serve both (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.engine.exchange import Exchange, owners_of
from pipeline.engine.layout import Matrix, Place
from pipeline.engine.optim_config import MuonConfig
from pipeline.engine.sharded_optimizer import ShardedOptimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: steepest at zero, singular values end within 0.7 … 1.2
STEPS = 5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def orthogonalised(matrix: Tensor) -> Tensor:
    """U·Vᵀ of a matrix U·S·Vᵀ, nearly, by Newton–Schulz in its dtype; zero stays zero."""
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x: Tensor = wide / torch.linalg.vector_norm(wide).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def operations(matrix: Matrix) -> float:
    """Multiplications of `orthogonalised`: what balances the ranks."""
    small, large = sorted(matrix.shape)
    return STEPS * (2 * small * small * large + small**3)


class Muon(ShardedOptimizer):
    def __init__(self, model: nn.Module, config: MuonConfig) -> None:
        self.momentum, self.dtype = config.momentum, DTYPES[config.newton_schulz_dtype]
        named = list(model.named_parameters())
        hidden = [(name, p) for name, p in named if name.startswith("layers.") and p.ndim == 2]
        decayed = [(name, p) for name, p in named if not name.startswith("layers.") and p.ndim >= 2]
        others = [(name, p) for name, p in named if p.ndim < 2]
        adamw = {"states": ("exp_avg", "exp_avg_sq"), "whole_matrices": False}
        decay = config.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": hidden, "weight_decay": decay, "states": ("momentum",), "whole_matrices": True},
            {"params": decayed, "weight_decay": decay, **adamw},
            {"params": others, "weight_decay": 0.0, **adamw},
        ]
        defaults = {"lr": config.learning_rate, "betas": (config.beta1, config.beta2), "eps": config.eps}
        super().__init__(groups, defaults)

    def bind(self, masters: Sequence[Tensor], places: Sequence[Place]) -> None:
        super().bind(masters, places)
        self.exchanges = {
            master: Exchange(layout, owners_of(layout, operations), self.dtype)
            for master, layout in self.layouts.items()
            if layout.matrices
        }

    def update_matrices(self, master: Tensor, group: dict[str, Any]) -> None:
        assert master.grad is not None
        momentum = self.state[master]["momentum"].lerp_(master.grad, 1 - self.momentum)
        nesterov = master.grad.lerp(momentum, self.momentum)
        update = self.exchanges[master].apply(nesterov, orthogonalised)
        layout = self.layouts[master]
        for part, matrix in zip(layout.parts(update), layout.matrices, strict=True):
            part.mul_(0.2 * math.sqrt(max(matrix.shape)))
        master.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])
