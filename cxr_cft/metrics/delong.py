"""An interval for one AUROC without resampling: DeLong's variance on the logit scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtri

from cxr_cft.metrics.intervals import check_confidence
from cxr_cft.metrics.ranking import auroc


def delong_interval(labels: ArrayLike, scores: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """The AUROC of one score column and its confidence interval, for rows that are independent of each other.

    The variance is that of DeLong, DeLong & Clarke-Pearson (Biometrics 1988) in O(N log N) by the ranks of Sun & Xu
    (IEEE Signal Processing Letters 2014); the interval is symmetric in the logit of the AUROC, which keeps it in
    [0, 1]. Several rows of one patient are not independent: use `bootstrap` for them.

    Where the method has no answer it is not made to give one:
    - Fewer than two known positives or negatives leave no variance to estimate: both bounds are nan.
    - Perfect separation (AUROC 1, or 0) has variance 0, which is not certainty. k = min(positives, negatives) disjoint
      pairs were all won, and that has probability AUROC**k, so the lower bound is Clopper & Pearson's (1934) for k wins
      out of k, ((1 - confidence) / 2) ** (1 / k): valid, and wide. AUROC 0 is its mirror image.
    - Scores that are all the same have AUROC 0.5 on any rows: both bounds are 0.5.

    Args:
        labels: (N,) of 1, 0 and nan for unknown.
        scores: (N,) on any scale.
        confidence: the interval's coverage, between 0 and 1.

    Returns:
        The AUROC and the interval's lower and upper bound, all nan without a known positive or negative.

    Raises:
        ValueError: `confidence` is not between 0 and 1, or as `auroc` raises.

    """
    check_confidence(confidence)
    labels, scores = np.asarray(labels), np.asarray(scores)
    if scores.ndim != 1:
        raise ValueError(f"scores must be (N,), but their shape is {scores.shape}")
    area: float = auroc(labels, scores)
    positives, negatives = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    rarer = min(len(positives), len(negatives))
    if rarer < 2:
        return area, float("nan"), float("nan")
    tail = (1 - confidence) / 2
    if area in (0.0, 1.0):
        bound = tail ** (1 / rarer)
        return (area, bound, 1.0) if area == 1.0 else (area, 0.0, 1 - bound)
    # DeLong's "structural components": the share of the other class that each row outranks. For the negatives theirs is
    # one minus this, of the same variance.
    won, lost = _outranked(negatives, positives), _outranked(positives, negatives)
    error = np.sqrt(won.var(ddof=1) / len(positives) + lost.var(ddof=1) / len(negatives))
    half_width = -ndtri(tail) * error / (area * (1 - area))  # the delta method: d logit(a) = da / (a (1 - a))
    return area, float(expit(logit(area) - half_width)), float(expit(logit(area) + half_width))


def _outranked(ascending: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """The share of `ascending` that each of `values` outranks, ties counting half."""
    below = ascending.searchsorted(values, side="left")
    level = ascending.searchsorted(values, side="right")
    return (below + level) / (2 * len(ascending))
