"""The loss: a sum over predicted tokens, never a mean, so that only the whole step is divided, once (law 2)."""

import torch.nn.functional as F
from torch import Tensor


def masked_lm_loss(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    """Cross-entropy in fp32, summed over the N predicted tokens, in nats."""
    return F.cross_entropy(logits_NV.float(), labels_N, reduction="sum")
