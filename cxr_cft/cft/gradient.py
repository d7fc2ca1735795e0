"""One category's head by gradient: a path of solutions from the trained head to the one that fits best.

The objective is small and smooth (and for BCE convex): it is solved by a quasi-Newton method, from the trained weights,
for a few strengths of a pull towards them. Validation chooses among the strengths and among the steps on the way to
each solution, so that a search which fits too well is stopped early.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cxr_cft.cft.solver import Loss, minimise

if TYPE_CHECKING:
    from cxr_cft.cft.options import Options
    from cxr_cft.cft.standard import Standardised


def bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each logit, finite for any finite logit; `labels` broadcast against them."""
    return functional.softplus(logits) - labels * logits


def asl(
    logits: Tensor, labels: Tensor, *, gamma_negative: float = 4.0, gamma_positive: float = 0.0, clip: float = 0.05
) -> Tensor:
    """Asymmetric loss of each logit (Ben-Baruch et al. 2021, arXiv 2009.14119, equations 4 to 7).

    With p = σ(z) and p_m = max(p − clip, 0): −(1 − p)^γ₊ log p for a positive, −p_m^γ₋ log(1 − p_m) for a negative.
    The defaults are those of Chong et al.'s CFT. The value and its gradient are finite for any finite logit: powers of
    p and 1 − p are taken as exponentials of their logarithms, and 1 − p_m is never below `clip` where it is at work.
    """
    positive = -functional.logsigmoid(logits)
    if gamma_positive:
        positive = positive * torch.exp(gamma_positive * functional.logsigmoid(-logits))
    if clip > 0:
        shifted = torch.sigmoid(logits) - clip
        inside = shifted > 0
        shifted = torch.where(inside, shifted, 1.0)  # where the margin forgives, neither value nor gradient
        rest = torch.sigmoid(-logits) + clip  # 1 − p_m, without its rounding to 0 where the clip is small
        negative = torch.where(inside, -torch.log(rest) * shifted**gamma_negative, 0.0)
    else:
        negative = -functional.logsigmoid(-logits) * torch.exp(gamma_negative * functional.logsigmoid(logits))
    return labels * positive + (1 - labels) * negative


def loss_of(method: str, options: Options) -> Loss:
    """The loss that a gradient method minimises."""
    if method == "bce":
        return bce
    return partial(asl, gamma_negative=options.gamma_negative, gamma_positive=options.gamma_positive, clip=options.clip)


def descend(method: str, problem: Standardised, options: Options) -> NDArray[np.float64]:
    """Every step of every pull's solution, as genes (K, D + 1) of the problem; none where the trained head is best.

    A step that validation may choose has found its ranking, but not yet its bias: that is settled for each.
    """
    pulls = torch.tensor(options.pulls, device=problem.features.device)
    _, steps = minimise(loss_of(method, options), problem, pulls)
    genes: NDArray[np.float64] = problem.settled(steps).double().cpu().numpy()
    return genes
