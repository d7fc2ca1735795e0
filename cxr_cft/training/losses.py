"""What training minimises: binary cross-entropy over the targets that count."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def masked_bce(logits: Tensor, targets: Tensor, mask: Tensor, total: Tensor | float | None = None) -> Tensor:
    """Binary cross-entropy of logits (N, C), summed over the entries by their mask and divided by `total`.

    Without `total` it is the mean over the mask. A part of a batch is divided by the whole batch's sum of the mask, so
    that the parts add up to the batch's mean. Where the mask is 0 the logit is set to 0 before the loss, so that
    nothing, however large, reaches the gradient. An all-zero mask gives 0.
    """
    counting = logits.float().masked_fill(mask == 0, 0.0)
    losses = functional.binary_cross_entropy_with_logits(counting, targets, reduction="none")
    return (losses * mask).sum() / (mask.sum().clamp(min=1.0) if total is None else total)
