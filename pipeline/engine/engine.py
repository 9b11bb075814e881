"""DeepSpeed around the model: processes, ZeRO, the exact gradient, and the tensors that a checkpoint must hold.

DeepSpeed divides a loss by the accumulation steps and averages gradients over ranks: a mean of means, which weighs a
token by its neighbours' number. `backward` takes both out, so that what is applied is the gradient of
Σ token losses ÷ (predicted tokens of the whole effective batch), on any number of ranks (law 2).
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # before the import: DeepSpeed looks once

import deepspeed
import deepspeed.ops
import deepspeed.runtime.bf16_optimizer
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from torch import Tensor

from pipeline.encoder.model import MaskedLM
from pipeline.engine.allocator import keep_freed_memory
from pipeline.engine.deepspeed_json import made_exact, offloads_optimizer, precision_of, stage_of
from pipeline.engine.fragments import give_to_model, make_states, masters_of, places
from pipeline.engine.lamb import Lamb
from pipeline.engine.loss_scale import LossScale
from pipeline.engine.loss_scale_numbers import LossScaleNumbers
from pipeline.engine.muon import Muon
from pipeline.errors import InputError
from pipeline.samples.batch import BatchGeometry

deepspeed.runtime.zero.utils.ZERO_SUPPORTED_OPTIMIZERS += [Lamb, Muon]  # else it warns of an untested one
# It prints the memory in use eight times at every start, whatever the settings say.
deepspeed.runtime.bf16_optimizer.see_memory_usage = lambda *_, **__: None

# Compiled in every run (a minute the first time) and 69 MB a rank in /dev/shm for good, while gloo does the work.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def start_processes() -> torch.device:
    """Join the other ranks (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) and return this rank's device."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's to mend
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        keep_freed_memory()
    deepspeed.init_distributed(dist_backend="nccl" if on_gpu else "gloo", verbose=False)
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")


def bound_collectives(seconds: float) -> None:
    """No collective of any group made so far waits longer. (By default some wait ten minutes and some thirty.)"""
    for group in dist.distributed_c10d._world.pg_map:
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)


def check_precision(path: Path, settings: dict[str, Any]) -> None:
    """Whether this device can what a DeepSpeed JSON, read from `path`, asks of it.

    Raises:
        InputError: it asks for fp16 on a device without.
    """
    if precision_of(settings) == "fp16" and not get_accelerator().is_fp16_supported():
        raise InputError(f"{path}: fp16.enabled: this device has no arithmetic in fp16; enable bf16, or neither")


@dataclass
class Fragment:
    """The part of one parameter that this rank keeps: elements `begin` … of the flattened tensor.

    `tensors` holds one-dimensional fp32 views of equal length, of the weight and of what the optimizer keeps of each
    element: writing to them changes what the optimizer uses.
    """

    name: str
    begin: int
    tensors: dict[str, Tensor]


class Engine:
    """A model under DeepSpeed, at any ZeRO stage. One a process: stage 3 replaces `F.linear` for good.

    Args:
        model: fp32, on its device. optimizer: of its parameters; each group's `states` names the tensors that it keeps
            of each element. geometry: of the batch.
        settings: the user's DeepSpeed JSON; batch sizes, clipping and precision are filled in.
        max_grad_norm: gradients are clipped to it; 0 clips nothing.

    Attributes:
        masters: the fp32 tensors that this rank's optimizer updates; places: what they hold.
        shapes: of the parameters, which are empty tensors between passes at stage 3. states: what the optimizer keeps
            of each. updates: made by the optimizer; fewer than steps where some were skipped.
        loss_scale: where the precision is fp16; what DeepSpeed holds of a gradient is so many times as large.
    """

    def __init__(
        self,
        model: MaskedLM,
        optimizer: torch.optim.Optimizer,
        geometry: BatchGeometry,
        settings: dict[str, Any],
        max_grad_norm: float = 0.0,
    ) -> None:
        self.world_size = geometry.world_size
        self.stage, self.offloads_optimizer = stage_of(settings), offloads_optimizer(settings)
        self.model, self.optimizer = model, optimizer
        self.shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
        kept = {parameter: group["states"] for group in optimizer.param_groups for parameter in group["params"]}
        self.states = {name: list(kept[parameter]) for name, parameter in model.named_parameters()}
        self.updates = 0
        self.deepspeed, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config={
                **made_exact(settings),
                "train_batch_size": geometry.train_batch_size,
                "train_micro_batch_size_per_gpu": geometry.micro_batch_size,
                "gradient_accumulation_steps": geometry.gradient_accumulation_steps,
                "gradient_clipping": max_grad_norm,
                "timers": {"throughput": {"enabled": False}},  # they wait for the device, twice a micro-batch
            },
        )
        names = {parameter: name for name, parameter in model.named_parameters()}
        self.loss_scale = LossScale(self.deepspeed.optimizer) if precision_of(settings) == "fp16" else None
        self.places = places(names, self.deepspeed.optimizer, dist.get_rank())
        self.masters = masters_of(self.deepspeed.optimizer)
        make_states(self.places, optimizer)
        if isinstance(optimizer, Lamb | Muon):
            optimizer.bind(self.masters, self.places)

    def backward(self, loss_sum: Tensor, predicted_tokens: Tensor) -> None:
        """Accumulate the gradient of loss_sum ÷ predicted_tokens, the latter counted over all ranks of the whole step.

        Both are scalars on the device, and neither is read. DeepSpeed averages over ranks, hence × world size. After
        the last micro-batch of a step the gradient is reduced and waits for `step`.
        """
        self.deepspeed.backward(loss_sum * (self.world_size / predicted_tokens).to(loss_sum.dtype), scale_wrt_gas=False)
        if not self.deepspeed.is_gradient_accumulation_boundary():
            self.deepspeed.step()  # which only counts

    def step(self, learning_rate: float, grad_norm: float) -> None:
        """Update the weights, once after the last `backward` of a step.

        Args:
            grad_norm: of the whole gradient, before clipping; where it is not finite, DeepSpeed makes no update.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with self._told(grad_norm):
            self.deepspeed.step()
        self.updates += self.deepspeed.was_step_applied()
        if self.loss_scale and self.deepspeed.was_step_applied():
            self.loss_scale.move(overflow=False)

    @contextmanager
    def _told(self, grad_norm: float) -> Iterator[None]:
        """Spare DeepSpeed from computing the norm again: in fp64, parameter by parameter, and over all ranks."""
        optimizer = self.deepspeed.optimizer
        if self.stage == 0 or isinstance(optimizer, BF16_Optimizer):
            yield
            return
        scale = self.loss_scale.value if self.loss_scale else 1.0
        value = torch.tensor(grad_norm * scale)  # on the host: it is read, once more for each group that is clipped
        name, norm = ("_get_norm_groups", [value]) if self.stage == 3 else ("scaled_global_norm", value)
        setattr(optimizer, name, lambda: norm)  # on the object, before the method of its class
        yield
        delattr(optimizer, name)

    def fragments(self) -> list[Fragment]:
        """What this rank keeps of each parameter."""
        found = []
        for place in self.places:
            tensors = {"weight": place.of(place.master)}
            state = self.optimizer.state[place.master]
            for name in self.optimizer.param_groups[place.group]["states"]:
                tensors[name] = place.of(state[name])
            found.append(Fragment(place.name, place.begin, tensors))
        return found

    def restored(self, updates: int, loss_scale: LossScaleNumbers | None) -> None:
        """After the fragments' tensors were set to what they were after so many updates, on every rank."""
        self.updates = updates
        if self.loss_scale:
            self.loss_scale.restore(loss_scale)
        for state in self.optimizer.state.values():
            state["step"].fill_(updates)
        give_to_model(self.deepspeed.optimizer)
