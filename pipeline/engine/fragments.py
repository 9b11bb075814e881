"""What a rank keeps of every parameter, and where DeepSpeed 0.19.8 puts it at each ZeRO stage.

    stage 0                whole parameters
    stages 1, 2            this rank's part of each group's parameters laid end to end
    stage 1 in bf16        the same, in another class of DeepSpeed's
    stage 3                this rank's part of every single parameter, padded to equal parts, in sub-groups

The optimizer updates fp32 master tensors, which hold several parameters' fragments (a whole parameter at stage 0). Its
states are kept by master; what the optimizer keeps of each element is named by its group's `states`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor, nn

from pipeline.engine.layout import Place


def places(names: dict[nn.Parameter, str], optimizer: Any, rank: int) -> list[Place]:
    """Where this rank keeps what it updates.

    Args:
        names: the model's parameters. optimizer: DeepSpeed's own, or the plain one at stage 0.
    """
    if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):
        return list(_partitioned_parameters(names, optimizer, rank))
    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        return list(_linked(names, optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups))
    if isinstance(optimizer, BF16_Optimizer):
        return list(_linked(names, optimizer.bf16_groups, optimizer.fp32_groups_flat_partition))
    return [
        Place(names[parameter], 0, parameter.numel(), parameter, 0, number)
        for number, group in enumerate(optimizer.param_groups)
        for parameter in group["params"]
    ]


def masters_of(optimizer: Any) -> list[Tensor]:
    """All that this rank's optimizer updates, in the same order on all ranks; some may hold nothing but padding."""
    if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):
        return list(optimizer.fp32_partitioned_groups_flat)
    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        return list(optimizer.single_partition_of_fp32_groups)
    if isinstance(optimizer, BF16_Optimizer):
        return list(optimizer.fp32_groups_flat_partition)
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _linked(names: dict[nn.Parameter, str], groups: list[list[nn.Parameter]], masters: list[Tensor]) -> Iterator[Place]:
    for number, (parameters, master) in enumerate(zip(groups, masters, strict=True)):
        for parameter in parameters:
            if mapping := getattr(parameter, "_hp_mapping", None):  # else another rank's
                low, high = mapping.lp_fragment_address, mapping.hp_fragment_address
                yield Place(names[parameter], low.start, high.numel, master, high.start, number)


def _partitioned_parameters(
    names: dict[nn.Parameter, str], zero: DeepSpeedZeroOptimizer_Stage3, rank: int
) -> Iterator[Place]:
    for number, (parameters, master) in enumerate(
        zip(zero.fp16_groups, zero.fp32_partitioned_groups_flat, strict=True)
    ):
        offset = 0
        for parameter in parameters:
            part = parameter.ds_tensor.ds_numel
            begin = min(rank * part, parameter.ds_numel)
            if length := min(part, parameter.ds_numel - begin):
                yield Place(names[parameter], begin, length, master, offset, zero.sub_group_to_group_id[number])
            offset += part


def make_states(places: list[Place], optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer's states as before the first update, each master with a step count of its own."""
    for place in places:
        state = optimizer.state[place.master]
        if not state:
            state["step"] = torch.zeros((), device=place.master.device)
            for name in optimizer.param_groups[place.group]["states"]:
                state[name] = torch.zeros_like(place.master.data)


def give_to_model(optimizer: Any) -> None:
    """After masters were set: the model computes with them from now on, on every rank."""
    if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):
        optimizer._partition_all_parameters()  # what is gathered is stale
        for number in range(len(optimizer.fp16_groups)):
            optimizer._reassign_or_swap_out_partitioned_parameters(number)
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)
    elif isinstance(optimizer, DeepSpeedZeroOptimizer | BF16_Optimizer):
        optimizer.update_lp_params()
