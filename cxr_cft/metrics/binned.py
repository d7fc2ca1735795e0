"""AUROC and average precision of many score rows at once from histograms: fast, with a stated error.

For a search that compares thousands of candidates; what is reported comes from `cxr_cft.metrics.ranking`, which is
exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

BINS = 4096
"""Of one histogram. Over 100,000 rows of normal scores AUROC was off by 4e-6, average precision by 2e-4 (measured)."""


class Binned(NamedTuple):
    """A metric by histogram, and how far the exact one can be from it."""

    value: Tensor
    """(K,) float64."""
    error: Tensor
    """(K,) float64: |exact − value| is at most this, whatever the order within a bin."""


def binned_auroc(positives: Tensor, negatives: Tensor, bins: int = BINS) -> Binned:
    """AUROC of K score rows, scores of one bin counting as ties.

    `positives` (K, P) and `negatives` (K, Q) are finite scores of any real dtype on one device; P and Q are at least 1.
    Pairs that share a bin are counted as half won, so the error is half their share: Σ_b P_b Q_b / (2 P Q).
    """
    own, other = _histograms(positives, negatives, bins)
    pairs = positives.shape[1] * negatives.shape[1]
    below = other.cumsum(1) - other
    value = (own * (below + other / 2)).sum(1) / pairs
    return Binned(value, (own * other).sum(1) / (2 * pairs))


def binned_average_precision(positives: Tensor, negatives: Tensor, bins: int = BINS) -> Binned:
    """Average precision of K score rows, scores of one bin counting as ties; shapes are `binned_auroc`'s.

    A positive's precision lies between (T + 1) / (T + 1 + F + q) and (T + p) / (T + p + F), where T positives and F
    negatives are in higher bins, p and q in its own; the value takes (T + p) / (T + p + F + q).
    """
    own, other = _histograms(positives, negatives, bins)
    true, false = own.flip(1).cumsum(1).flip(1), other.flip(1).cumsum(1).flip(1)  # in this bin and above
    above_true, above_false = true - own, false - other
    filled = own > 0  # an empty bin has no precision, and could divide by zero

    def mean(numerator: Tensor, false: Tensor) -> Tensor:
        precision = torch.where(filled, numerator / (numerator + false).clamp(min=1), 0.0)
        return (own * precision).sum(1) / positives.shape[1]

    value = mean(true, false)
    high, low = mean(true, above_false), mean(above_true + 1, false)
    return Binned(value, torch.maximum(high - value, value - low))


BINNED: dict[str, Callable[[Tensor, Tensor], Binned]] = {
    "auroc": binned_auroc,
    "average_precision": binned_average_precision,
}


def _histograms(positives: Tensor, negatives: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Counts (K, bins) float64 of both classes over the range of both.

    Subtraction and multiplication round monotonically, so that a higher score is never in a lower bin.
    """
    lows, highs = zip(*(torch.aminmax(scores, dim=1) for scores in (positives, negatives)), strict=True)
    low = torch.minimum(*lows)
    spread = torch.maximum(*highs) - low
    scale = torch.where(spread > 0, (bins - 1) / spread, 0.0)
    # A spread below the smallest normal number gives an infinite scale: then all scores count as ties.
    scale = torch.where(torch.isfinite(scale), scale, 0.0)
    rows = torch.arange(len(low), device=low.device, dtype=torch.int32)[:, None] * bins

    def counts(scores: Tensor) -> Tensor:
        keys = ((scores - low[:, None]) * scale[:, None]).to(torch.int32).clamp_(0, bins - 1) + rows
        return torch.bincount(keys.flatten(), minlength=len(low) * bins).view(-1, bins).double()

    return counts(positives), counts(negatives)
