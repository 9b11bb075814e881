"""An optimizer that treats whole matrices by a rule of its own and everything else by AdamW, under any ZeRO stage."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from pipeline.engine.layout import Layout, Place, layouts_of, matrices_of


def adamw_(tensors: Sequence[Tensor], grads: Sequence[Tensor], states: Sequence[dict[str, Tensor]], lr: float,
           betas: tuple[float, float], eps: float, weight_decay: float) -> None:  # fmt: skip
    """One fused update in place, as torch.optim.AdamW makes it."""
    adamw(
        list(tensors),
        list(grads),
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        fused=True,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=lr,
        weight_decay=weight_decay,
        eps=eps,
        maximize=False,
    )


class ShardedOptimizer(torch.optim.Optimizer, ABC):
    """Works on whole parameters as it is made; after `bind`, on the master tensors that DeepSpeed put in their place.

    Args:
        groups: of pairs (name, parameter), each with its `weight_decay`; `states`, what is kept of each element, for
            checkpoints; and `whole_matrices`, whether the subclass's rule is theirs.
        defaults: lr, betas, eps.
    """

    def __init__(self, groups: list[dict[str, Any]], defaults: dict[str, Any]) -> None:
        super().__init__(groups, defaults)
        places = [
            Place(name, 0, parameter.numel(), parameter, 0, number)
            for number, group in enumerate(self.param_groups)
            for name, parameter in zip(group["param_names"], group["params"], strict=True)
        ]
        self.matrices = matrices_of(
            {place.name: place.master.shape for place in places if self.param_groups[place.group]["whole_matrices"]}
        )
        self.layouts: dict[Tensor, Layout] = {}
        self.bind([place.master for place in places], places)

    def bind(self, masters: Sequence[Tensor], places: Sequence[Place]) -> None:
        """Tell where parameters lie, once after `deepspeed.initialize`, on all ranks together.

        Args:
            masters: all that `step` will find in the groups, in the same order on all ranks.
            places: all that this rank keeps.
        """
        self.layouts = dict(zip(masters, layouts_of(self.matrices, masters, places), strict=True))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # it has none to call
        """One update from the masters' `.grad`; DeepSpeed may show one group, or one master of it, at a time."""
        assert closure is None
        for group in self.param_groups:
            masters = [master for master in group["params"] if master.grad is not None]
            for master in masters:
                self._make_state(master, group["states"])
            if group["whole_matrices"]:
                for master in masters:
                    self.update_matrices(master, group)
            elif masters:
                self._update_others(masters, group)

    def _make_state(self, master: Tensor, names: Sequence[str]) -> None:
        state = self.state[master]
        if not state:
            state["step"] = torch.zeros((), device=master.device)
            state.update({name: torch.zeros_like(master) for name in names})

    @abstractmethod
    def update_matrices(self, master: Tensor, group: dict[str, Any]) -> None:
        """Update the matrices in a master; every rank calls it for the same masters in the same order."""

    def _update_others(self, masters: Sequence[Tensor], group: dict[str, Any]) -> None:
        grads = [master.grad for master in masters if master.grad is not None]
        states = [self.state[master] for master in masters]
        adamw_(masters, grads, states, group["lr"], group["betas"], group["eps"], group["weight_decay"])
