"""DeepSpeed around the model: processes, ZeRO, the exact gradient, and the tensors that a checkpoint must hold.

DeepSpeed divides a loss by the accumulation steps and averages gradients over ranks: a mean of means, which weighs a
token by its neighbours' number. `backward` takes both out, so that what is applied is the gradient of
Σ token losses ÷ (predicted tokens of the whole effective batch), on any number of ranks (law 2).
"""

import logging
import os
import warnings
from dataclasses import dataclass
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # before the import: DeepSpeed looks once

import deepspeed
import deepspeed.ops
from torch import Tensor

from pipeline.batch import BatchGeometry
from pipeline.model import MaskedLM
from pipeline.optim import adamw
from pipeline.optim_config import OptimizerConfig

# Compiled in every run (a minute the first time) and 69 MB a rank in /dev/shm for good, while gloo does the work.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

STATES = ("weight", "exp_avg", "exp_avg_sq")  # what AdamW needs of a parameter, all fp32


def start_processes() -> torch.device:
    """Join the other ranks (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) and return this rank's device."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's to mend
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    deepspeed.init_distributed(dist_backend="nccl" if on_gpu else "gloo", verbose=False)
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")


@dataclass
class Fragment:
    """The part of one parameter that this rank keeps: elements `begin` … of the flattened tensor.

    `tensors` holds one-dimensional fp32 views of equal length by the names in `STATES`: writing to them changes what
    the optimizer uses.
    """

    name: str
    begin: int
    tensors: dict[str, Tensor]


class Engine:
    """A model under DeepSpeed.

    Args:
        model: fp32. optimizer: AdamW's settings. geometry: of the batch.
        settings: the user's DeepSpeed JSON; batch sizes and clipping are filled in.
    """

    def __init__(
        self, model: MaskedLM, optimizer: OptimizerConfig, geometry: BatchGeometry, settings: dict[str, Any]
    ) -> None:
        self.world_size = geometry.world_size
        self.stage = settings.get("zero_optimization", {}).get("stage", 0)
        self.model = model
        self.adamw = adamw(model, optimizer)
        self.deepspeed, *_ = deepspeed.initialize(
            model=model,
            optimizer=self.adamw,
            config={
                **settings,
                "train_batch_size": geometry.train_batch_size,
                "train_micro_batch_size_per_gpu": geometry.micro_batch_size,
                "gradient_accumulation_steps": geometry.gradient_accumulation_steps,
                "gradient_clipping": optimizer.max_grad_norm,
                "timers": {"throughput": {"enabled": False}},  # they wait for the device, twice a micro-batch
            },
        )

    def backward(self, loss_sum: Tensor, predicted_tokens: Tensor) -> None:
        """Accumulate the gradient of loss_sum ÷ predicted_tokens, the latter counted over all ranks of the whole step.

        Both are scalars on the device, and neither is read. DeepSpeed averages over ranks, hence × world size. After
        the last micro-batch of a step the gradient is reduced and waits for `step`.
        """
        self.deepspeed.backward(loss_sum * (self.world_size / predicted_tokens).to(loss_sum.dtype), scale_wrt_gas=False)
        if not self.deepspeed.is_gradient_accumulation_boundary():
            self.deepspeed.step()  # which only counts

    def step(self, learning_rate: float) -> None:
        """Update the weights, once after the last `backward` of a step."""
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.deepspeed.step()

    def fragments(self, step: int) -> list[Fragment]:
        """What this rank keeps of each parameter; Adam's missing states are made as after `step` updates."""
        if self.stage == 0:
            return self._whole_parameters(step)
        zero, found = self.deepspeed.optimizer, []
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for group, parameters in enumerate(zero.bit16_groups):
            flat = zero.single_partition_of_fp32_groups[group]
            state = self._adam_state(flat, step)
            for parameter in parameters:
                if (mapping := parameter._hp_mapping) is None:
                    continue  # another rank's
                begin, length = mapping.hp_fragment_address.start, mapping.hp_fragment_address.numel
                views = {"weight": flat, "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}
                tensors = {key: value.detach().narrow(0, begin, length) for key, value in views.items()}
                found.append(Fragment(names[id(parameter)], mapping.lp_fragment_address.start, tensors))
        return found

    def _whole_parameters(self, step: int) -> list[Fragment]:
        found = []
        for name, parameter in self.model.named_parameters():
            state = self._adam_state(parameter, step)
            views = {"weight": parameter, "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}
            found.append(Fragment(name, 0, {key: value.detach().view(-1) for key, value in views.items()}))
        return found

    def _adam_state(self, tensor: Tensor, step: int) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.adamw.state[tensor]
        if not state:  # a tensor of its own for each: AdamW advances it in place
            state["step"] = torch.tensor(float(step), device=tensor.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(tensor.data), torch.zeros_like(tensor.data)
        return state

    def refresh_weights(self) -> None:
        """After the fragments' weights were set: give them to the model on every rank."""
        if self.stage > 0:
            self.deepspeed.optimizer.update_lp_params()
