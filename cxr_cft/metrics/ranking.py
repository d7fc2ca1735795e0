"""How well scores rank the positives above the negatives: AUROC and average precision, exact, many columns at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Metric(Protocol):
    """What `auroc` and `average_precision` have in common; the values of `METRICS`."""

    # Any, because whether a number or an array comes back hangs on the number of dimensions, which types do not carry.
    def __call__(self, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
        """Score (N,) or (N, K) columns against (N,) labels."""
        ...


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """The chance that a random positive scores above a random negative, a tie counting half.

    Exact, and of ranks alone: pass logits rather than float32 sigmoids, which tie where a network is sure.

    Args:
        labels: (N,) of 1, 0 and nan for unknown; unknown rows count for nothing.
        scores: (N,), or (N, K) for K columns over the same labels; any real dtype, on any scale.
        weights: how often a row counts: (N,), or (N, R) for R weightings (bootstrap resamples) from one sort.

    Returns:
        A float for (N,) scores, (K,) for (N, K); weights of (N, R) put an axis R in front. nan where no weight is on a
        known positive or on a known negative.

    Raises:
        ValueError: a shape does not fit, a label is not 1, 0 or nan, a score with a known label is not finite, or a
            weight is negative or not finite.

    """
    positive, negative, columns, weighting, squeeze = prepare(labels, scores, weights)
    if weighting is None:
        values = _unweighted_auroc(*_sorted_classes(columns, positive, negative))
    else:
        values = weighted(_weighted_auroc, columns, positive, negative, weighting)
    return squeeze(values)


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """The mean over the positives of the precision at their score, which is scikit-learn's step-wise average precision.

    Shapes, nan and errors are `auroc`'s. Without a known negative every ranking would score 1, so that is nan too.
    """
    positive, negative, columns, weighting, squeeze = prepare(labels, scores, weights)
    if weighting is None:
        values = _unweighted_average_precision(*_sorted_classes(columns, positive, negative))
    else:
        values = weighted(_weighted_average_precision, columns, positive, negative, weighting)
    return squeeze(values)


METRICS: dict[str, Metric] = {"auroc": auroc, "average_precision": average_precision}


def per_category(metric: Metric, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """`metric` of every category on its own labels.

    Args:
        metric: `auroc` or `average_precision`.
        labels: (N, C) of 1, 0 and nan for unknown.
        scores: (N, C), or (M, N, C) for M models.
        weights: as for `auroc`.

    Returns:
        (C,) or (M, C); weights of (N, R) put an axis R in front.

    Raises:
        ValueError: the shapes do not fit, or as `auroc` raises.

    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 2 or scores.ndim not in (2, 3) or scores.shape[-2:] != labels.shape:
        shapes = f"{labels.shape} and {scores.shape}"
        raise ValueError(f"labels must be (N, C) and scores (N, C) or (M, N, C), but their shapes are {shapes}")
    if not labels.shape[1]:
        raise ValueError("there is no category to score")
    return np.stack([metric(labels[:, c], scores[..., c].T, weights) for c in range(labels.shape[1])], axis=-1)


class Squeeze:
    """Takes away the axes that the caller did not pass: R first, K last."""

    def __init__(self, no_resamples: bool, no_columns: bool) -> None:
        self.index = (0 if no_resamples else slice(None), 0 if no_columns else slice(None))

    def __call__(self, values: Floats) -> Any:
        """Values (R, K), or of fewer dimensions."""
        squeezed = values[self.index]
        return float(squeezed) if np.ndim(squeezed) == 0 else squeezed


def prepare(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[Any], NDArray[Any] | None, Squeeze]:
    """Rows of the positives and of the negatives, scores as (N, K), weights as (N, R), and the way back."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 1 or scores.ndim not in (1, 2) or len(scores) != len(labels):
        raise ValueError(
            f"labels must be (N,) and scores (N,) or (N, K), but their shapes are {labels.shape} and {scores.shape}"
        )
    if scores.dtype.kind not in "fiub":
        raise ValueError(f"scores must be real numbers, but their dtype is {scores.dtype}")
    if scores.dtype == np.float16:  # exact, and NumPy sorts float32 twice as fast (measured)
        scores = scores.astype(np.float32)
    labels = labels.astype(np.float64, copy=False)
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    if len(positive) + len(negative) + np.count_nonzero(np.isnan(labels)) != len(labels):
        strange = labels[~(np.isnan(labels) | (labels == 0) | (labels == 1))][0]
        raise ValueError(f"labels must be 1, 0 or nan for unknown, but there is a {strange:g}: apply a policy first")
    weighting = None
    if weights is not None:
        weighting = np.asarray(weights)
        if weighting.ndim not in (1, 2) or len(weighting) != len(labels):
            raise ValueError(f"weights must be ({len(labels)},) or ({len(labels)}, R), not {weighting.shape}")
        # Not `min() < 0`: of a nan that would be false.
        if weighting.size and not (weighting.min() >= 0 and np.isfinite(weighting.max())):
            raise ValueError("weights must be finite and not negative")
    squeeze = Squeeze(weighting is None or weighting.ndim == 1, scores.ndim == 1)
    columns = scores[:, None] if scores.ndim == 1 else scores
    if weighting is not None and weighting.ndim == 1:
        weighting = weighting[:, None]
    return positive, negative, columns, weighting, squeeze


def check_finite(ascending: NDArray[Any]) -> None:
    """Sorting puts -inf first, inf and nan last, so that (K, n) sorted scores show them at their ends."""
    if ascending.shape[1] and not np.isfinite(ascending[:, [0, -1]]).all():
        raise ValueError("scores must be finite, but there is a nan or an infinity among those with a known label")


def _sorted_classes(
    columns: NDArray[Any], positive: NDArray[np.intp], negative: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The positives' scores as (K, P) and the negatives' as (K, Q), ascending.

    The two classes are sorted apart because values alone sort several times as fast as with their labels (argsort).
    """
    classes = []
    for rows in (positive, negative):
        # A memory order with columns one after the other (a transposed population) is gathered along its fast axis.
        gathered = columns.T.take(rows, axis=1) if columns.flags.f_contiguous else columns[rows].T
        ascending = np.ascontiguousarray(gathered)
        ascending.sort(axis=1)
        check_finite(ascending)
        classes.append(ascending)
    return classes[0], classes[1]


def places(ascending: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many of `ascending` lie below each of `values`, and how many below or level."""
    below = ascending.searchsorted(values, side="left")
    level = below.copy()
    if len(ascending):
        # Logits seldom tie, so the second search is made for those alone that do.
        tied = ascending[np.minimum(below, len(ascending) - 1)] == values
        if tied.any():
            level[tied] = ascending.searchsorted(values[tied], side="right")
    return below, level


def _unweighted_auroc(positives: NDArray[Any], negatives: NDArray[Any]) -> Floats:
    """(1, K) AUROCs: the rank sum of the rarer class, by a search among the other."""
    pairs = positives.shape[1] * negatives.shape[1]
    if not pairs:
        return np.full((1, len(positives)), np.nan)
    positives_rarer = positives.shape[1] <= negatives.shape[1]
    few, many = (positives, negatives) if positives_rarer else (negatives, positives)
    twice_won = np.empty(len(positives), dtype=np.int64)
    for column, (values, ascending) in enumerate(zip(few, many, strict=True)):
        below, level = places(ascending, values)
        twice_won[column] = below.sum(dtype=np.int64) + level.sum(dtype=np.int64)
    if not positives_rarer:
        twice_won = 2 * pairs - twice_won
    return np.asarray(twice_won / (2 * pairs))[None]


def _unweighted_average_precision(positives: NDArray[Any], negatives: NDArray[Any]) -> Floats:
    """(1, K) average precisions, from how many positives and negatives score no less than each positive."""
    if not positives.shape[1] or not negatives.shape[1]:
        return np.full((1, len(positives)), np.nan)
    values = np.empty(len(positives))
    for column, (own, other) in enumerate(zip(positives, negatives, strict=True)):
        true = len(own) - first_of_ties(own)
        false = len(other) - other.searchsorted(own, side="left")
        values[column] = np.mean(true / (true + false))
    return values[None]


def first_of_ties(ascending: NDArray[Any]) -> NDArray[np.intp]:
    """For each of the sorted values the index of the first that is level with it."""
    starts = np.arange(len(ascending))
    starts[1:][ascending[1:] == ascending[:-1]] = 0
    return np.maximum.accumulate(starts)


def last_of_ties(ascending: NDArray[Any]) -> NDArray[np.intp]:
    """For each of the sorted values the index after the last that is level with it."""
    return len(ascending) - first_of_ties(ascending[::-1])[::-1]


WeightedColumn = Callable[[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]], Floats]
"""(R,) of one column from both classes' ascending scores, (P,) and (Q,), and their weights, (P, R) and (Q, R)."""


def weighted(
    score: WeightedColumn,
    columns: NDArray[Any],
    positive: NDArray[np.intp],
    negative: NDArray[np.intp],
    weighting: NDArray[Any],
) -> Floats:
    """(R, K): `score` of every column, the classes sorted with their weights."""
    values = np.full((weighting.shape[1], columns.shape[1]), np.nan)
    if not len(positive) or not len(negative):
        return values
    for k in range(columns.shape[1]):
        own, other = columns[positive, k], columns[negative, k]
        own_order, other_order = np.argsort(own), np.argsort(other)
        own, other = own[own_order], other[other_order]
        check_finite(own[None])
        check_finite(other[None])
        values[:, k] = score(own, other, weighting[positive[own_order]], weighting[negative[other_order]])
    return values


def summed(weights: NDArray[Any]) -> Floats:
    """(n + 1, R) sums of the first 0, 1, ... n of (n, R) weights. Whole numbers stay exact in float64 up to 2**53."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def _weighted_auroc(
    own: NDArray[Any], other: NDArray[Any], own_weights: NDArray[Any], other_weights: NDArray[Any]
) -> Floats:
    if len(own) > len(other):  # the search and the gathers are made for the rarer class
        return 1 - _weighted_auroc(other, own, other_weights, own_weights)
    sums = summed(other_weights)
    below, level = places(other, own)
    won = np.einsum("pr,pr->r", own_weights.astype(np.float64), sums[below] + sums[level]) / 2
    pairs = own_weights.sum(axis=0, dtype=np.float64) * sums[-1]
    return ratio(won, pairs)


def _weighted_average_precision(
    own: NDArray[Any], other: NDArray[Any], own_weights: NDArray[Any], other_weights: NDArray[Any]
) -> Floats:
    own_sums, other_sums = summed(own_weights), summed(other_weights)
    true = own_sums[-1] - own_sums[first_of_ties(own)]
    false = other_sums[-1] - other_sums[other.searchsorted(own, side="left")]
    # A positive without weight can have nothing at or above it; it counts for nothing whatever its precision.
    precision = np.divide(true, true + false, out=np.zeros_like(true), where=true + false > 0)
    total = np.where(other_sums[-1] > 0, own_sums[-1], 0)
    return ratio(np.einsum("pr,pr->r", own_weights.astype(np.float64), precision), total)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, nan where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
