"""One rank of a group that says what every micro-step and step of it sent, under each configuration.

    python -m tests.integration.count_wire RUN/config.yaml …

Collectives of `torch.distributed` are counted where DeepSpeed finds them, so this comes before its import.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "all_gather_into_tensor",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
)
COLLECTIVES += ("broadcast", "all_to_all", "all_to_all_single", "gather", "scatter", "all_gather_object")
calls: list[tuple[str, int]] = []  # name, and bytes of the whole that the ranks reduce or gather


def size(value: Any) -> int:
    """Bytes of a tensor, or of a list of them."""
    if isinstance(value, list):
        return sum(map(size, value))
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        calls.append((name, max(map(size, [*arguments, *keywords.values()]))))
        return function(*arguments, **keywords)

    return call


for name in COLLECTIVES:
    setattr(dist, name, counted(name, getattr(dist, name)))

from pipeline.configfile import load_config  # noqa: E402
from pipeline.engine.engine import start_processes  # noqa: E402
from pipeline.pretrain_config import PretrainConfig  # noqa: E402
from pipeline.rank import end_process  # noqa: E402
from pipeline.samples.data import steps  # noqa: E402
from pipeline.trainer import Trainer  # noqa: E402


def said() -> list[tuple[str, int]]:
    found, calls[:] = list(calls), []
    return found


if __name__ == "__main__":
    device = start_processes()
    for path in sys.argv[1:]:
        trainer = Trainer(load_config(PretrainConfig, Path(path)), device)
        trainer.engine.model.train()
        backward, sent = trainer.engine.backward, []

        def then_say(*arguments: Any, backward: Any = backward, sent: Any = sent) -> None:
            backward(*arguments)
            sent.append(said())

        trainer.engine.backward = then_say  # type: ignore[method-assign]
        for step in steps(trainer.batches, trainer.rank, 0, 2, workers=0):
            said()
            sent.clear()
            trainer.train_step(step)
        print(json.dumps({"config": path, "micro_steps": sent, "step": said()}), flush=True)
    end_process(0)
