"""Silent corruption: what every rank holds a copy of must be the same everywhere, to the last bit.

    stage 0        weights, masters and the optimizer's states
    stages 1, 2    the model's weights; masters and states are each on one rank alone
    stage 3        the weights that are small enough to stay whole on every rank (`stage3_param_persistence_threshold`)

A tensor's digest is the sum of its raw bits, as 64-bit integers that wrap around: one changed element always changes
it, unlike a sum of floating-point numbers, which rounds a changed bit away.
"""

from collections import Counter

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.engine.engine import Engine
from pipeline.errors import RunError

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class ReplicasDiffer(RunError):
    """A rank's copy is not that of the others: its memory or its arithmetic is not sound."""


def compare_replicas(engine: Engine, step: int) -> None:
    """Compare what is replicated, on all ranks together: 16 bytes a tensor are all-reduced and the device is read once.

    Args:
        step: steps done, for people.

    Raises:
        ReplicasDiffer: on every rank; names the first tensor that differs, and the rank where most others agree.
    """
    tensors = replicated(engine)
    if engine.world_size == 1 or not tensors:
        return
    mine = torch.stack([digest(tensor) for tensor in tensors.values()]).to(engine.deepspeed.device)
    dist.all_reduce(largest := torch.stack([mine, ~mine]), op=dist.ReduceOp.MAX)  # ~ turns the order around
    if torch.equal(largest[0], ~largest[1]):
        return
    gathered = [torch.empty_like(mine) for _ in range(engine.world_size)]
    dist.all_gather(gathered, mine)
    columns = torch.stack(gathered).T.tolist()
    different = {name: found for name, found in zip(tensors, columns, strict=True) if len(set(found)) > 1}
    name, found = next(iter(different.items()))
    others = f", and {len(different) - 1} more tensors" if len(different) > 1 else ""
    raise ReplicasDiffer(
        f"step {step}: {name}{others}: {whose(found)}; memory or arithmetic of a machine is not sound, and nothing was"
        " saved of it; the last checkpoint is from before it"
    )


def replicated(engine: Engine) -> dict[str, Tensor]:
    """The tensors that all ranks hold alike between two steps, by a name for people, in the same order everywhere."""
    parameters = dict(engine.model.named_parameters())
    if engine.stage == 3:
        persistent = set(engine.deepspeed.optimizer.persistent_parameters)
        return {f"weight of {name}": one.data for name, one in parameters.items() if one in persistent}
    found = {f"weight of {name}": one.data for name, one in parameters.items()}
    for place in engine.places if engine.stage == 0 else []:
        if place.master is not parameters[place.name]:
            found[f"fp32 weight of {place.name}"] = place.of(place.master)
        for state in engine.optimizer.param_groups[place.group]["states"]:
            found[f"{state} of {place.name}"] = place.of(engine.optimizer.state[place.master][state])
    return found


def digest(tensor: Tensor) -> Tensor:
    """The sum of a tensor's raw bits modulo 2⁶⁴, an int64 scalar on its device; eight bytes at a time."""
    flat = tensor.detach().reshape(-1)
    together = 8 // flat.element_size()
    whole = len(flat) // together * together
    body, rest = flat[:whole], flat[whole:]
    if body.storage_offset() % together:  # cannot be read as int64 where it lies
        body = body.clone()
    return body.view(torch.int64).sum() + rest.view(INTEGERS[flat.element_size()]).sum(dtype=torch.int64)


def whose(digests: list[int]) -> str:
    """Which ranks are to blame, as far as a majority tells."""
    (common, times), *_ = Counter(digests).most_common(1)
    if 2 * times <= len(digests):
        return f"the {len(digests)} ranks differ, and no majority says which is right"
    alone = [str(rank) for rank, found in enumerate(digests) if found != common]
    return f"rank {alone[0]} differs from all others" if len(alone) == 1 else f"ranks {', '.join(alone)} differ"
