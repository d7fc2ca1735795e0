"""What training minimises: binary cross-entropy over the targets that count."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def masked_bce(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (N, C) over the entries whose mask is 1.

    Where the mask is 0 the logit is set to 0 before the loss, so that nothing, however large, reaches the gradient.
    An all-zero mask gives 0.
    """
    losses = functional.binary_cross_entropy_with_logits(logits.float() * mask, targets, reduction="none")
    return (losses * mask).sum() / mask.sum().clamp(min=1.0)
