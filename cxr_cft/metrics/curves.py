"""ROC and precision-recall curves to draw: their exact points, and a band that says how far they would move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import precision_recall_curve, roc_curve  # type: ignore[import-untyped]

from cxr_cft.metrics.ranking import auroc, first_of_ties, last_of_ties, ratio
from cxr_cft.metrics.resampling import Counts, bootstrap

Floats = NDArray[np.float64]

_PER_CENT = np.arange(101)


class Band(NamedTuple):
    """A curve, and a pointwise interval of its height; see `roc_band`."""

    x: Floats
    y: Floats
    grid: Floats
    low: Floats
    high: Floats


def roc_band(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Band:
    """The ROC curve, true over false positive rate, and the true positive rate's interval at 0, 1, … 100 % of false.

    Of points on one straight line only the ends are kept. The band is pointwise, the percentiles over resamples of
    whole groups: at each x it covers the height there, not the whole curve at once. At a vertical step a curve's height
    is that of its upper end.

    Args:
        labels: (N,) of 1, 0 and nan for unknown; unknown rows count for nothing.
        scores: (N,) on any scale.
        groups: (N,), as for `bootstrap`; likewise the rest.
        rng: the only source of randomness.
        resamples: how many.
        confidence: the band's coverage at each point.

    Returns:
        x and y of the curve, ascending in x, empty without a known positive or negative; and the band's grid, low and
        high, (101,), or empty where there is no answer: where more than `MAX_UNDEFINED` of the resamples lack a class,
        and where the classes are perfectly separated, as they then are in every resample.

    Raises:
        ValueError: a shape does not fit, or as `bootstrap` and `auroc` raise.

    """

    def points(labels: Floats, scores: NDArray[Any]) -> tuple[Floats, Floats]:
        false_rate, true_rate, _ = roc_curve(labels, scores)
        # As counts, which have no rounding errors that would hide a straight line.
        kept = _corners(np.rint(false_rate * (labels == 0).sum()), np.rint(true_rate * (labels == 1).sum()))
        return false_rate[kept], true_rate[kept]

    return _band(points, _true_rates, labels, scores, groups, rng, resamples, confidence)


def precision_recall_band(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Band:
    """The precision-recall curve, and the precision's interval at recalls of 0, 1, … 100 %.

    x is recall, from the highest threshold on: scikit-learn's made point at recall 0 and precision 1 is not there. At
    each recall the band is of the precision at the highest threshold that reaches it, as average precision counts it
    (a straight line between two points would promise too much: Davis & Goadrich, ICML 2006). All else is `roc_band`'s.
    """

    def points(labels: Floats, scores: NDArray[Any]) -> tuple[Floats, Floats]:
        precision, recall, _ = precision_recall_curve(labels, scores, drop_intermediate=True)
        precision, recall = precision[-2::-1], recall[-2::-1]
        kept = _corners(recall, precision)
        return recall[kept], precision[kept]

    return _band(points, _precisions, labels, scores, groups, rng, resamples, confidence)


def _band(
    points: Callable[[Floats, NDArray[Any]], tuple[Floats, Floats]],
    heights: Callable[[NDArray[Any], NDArray[Any], Floats, Floats], Floats],
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    rng: np.random.Generator,
    resamples: int,
    confidence: float,
) -> Band:
    """`points` of (n,) known labels and scores; `heights` (R, 101) of both classes' ascending scores and sums."""
    labels, scores, groups = np.asarray(labels, dtype=np.float64), np.asarray(scores), np.asarray(groups)
    if labels.ndim != 1 or scores.shape != labels.shape or groups.shape != labels.shape:
        raise ValueError(
            f"labels, scores and groups must be (N,), but their shapes are {labels.shape}, {scores.shape} and "
            f"{groups.shape}"
        )
    area, none = auroc(labels, scores), np.empty(0)
    if np.isnan(area):
        return Band(none, none, none, none, none)
    known = ~np.isnan(labels)
    x, y = points(labels[known], scores[known])
    positive, negative = (rows[np.argsort(scores[rows])] for rows in map(np.flatnonzero, (labels == 1, labels == 0)))

    def statistic(counts: Counts) -> Floats:
        own, other = (_summed(counts[rows].T) for rows in (positive, negative))
        values = heights(scores[positive], scores[negative], own, other)
        values[(own[:, -1] == 0) | (other[:, -1] == 0)] = np.nan
        return values

    sampled = bootstrap(statistic, groups, rng=rng, resamples=resamples, confidence=confidence)
    if area in (0.0, 1.0) or np.isnan(sampled.low).any():
        return Band(x, y, none, none, none)
    return Band(x, y, _PER_CENT / 100, sampled.low, sampled.high)


def _true_rates(positives: NDArray[Any], negatives: NDArray[Any], own: Floats, other: Floats) -> Floats:
    """(R, 101): the share of positives above the negative at which each share of the negatives is reached.

    Where positives tie with it the curve is a slope.
    """
    # The weight of the negatives below: a whole number, where it should be one, comes out as that.
    spared = other[:, -1:] * _PER_CENT[::-1] / 100
    found = _searched(other, spared, "left") - 1
    negative = np.maximum(found, 0)
    bottom, top = first_of_ties(negatives)[negative], last_of_ties(negatives)[negative]
    level = np.take_along_axis(other, top, axis=1)
    tied = level - np.take_along_axis(other, bottom, axis=1)
    slope = np.divide(level - spared, tied, out=np.zeros_like(tied), where=tied > 0)
    below, level = (
        np.take_along_axis(own, positives.searchsorted(negatives, side=side)[negative], axis=1)
        for side in ("left", "right")
    )
    reached = own[:, -1:] - level + slope * (level - below)
    return ratio(np.where(found >= 0, reached, own[:, -1:]), np.broadcast_to(own[:, -1:], reached.shape))


def _precisions(positives: NDArray[Any], negatives: NDArray[Any], own: Floats, other: Floats) -> Floats:
    """(R, 101): the precision at the highest threshold that reaches each share of the positives."""
    missed = own[:, -1:] * _PER_CENT[::-1] / 100
    # A recall of 0 is that of the first threshold with any.
    found = np.minimum(_searched(own, missed, "right"), _searched(own, own[:, -1:], "left")) - 1
    positive = np.maximum(found, 0)
    true = own[:, -1:] - np.take_along_axis(own, first_of_ties(positives)[positive], axis=1)
    false = other[:, -1:] - np.take_along_axis(other, negatives.searchsorted(positives)[positive], axis=1)
    return true / np.maximum(true + false, 1)


def _summed(weights: Counts) -> Floats:
    """(R, n + 1) sums of the first 0, 1, ... n of (R, n)."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _searched(sums: Floats, values: Floats, side: Literal["left", "right"]) -> NDArray[np.intp]:
    """`searchsorted` of each row of values in the same row of sums."""
    return np.stack([row.searchsorted(wanted, side) for row, wanted in zip(sums, values, strict=True)])


def _corners(x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Which points of a curve are its ends, or not on the straight line between their neighbours."""
    right, up = np.diff(x), np.diff(y)
    kept = np.ones(len(x), dtype=np.bool_)
    kept[1:-1] = right[:-1] * up[1:] != up[:-1] * right[1:]
    return kept
