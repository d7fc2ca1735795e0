"""Whether probabilities mean what they say: Brier score, calibration error, a reliability diagram's bins."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from cxr_cft.metrics.ranking import Squeeze, first_of_ties, last_of_ties, prepare, ratio, summed

Floats = NDArray[np.float64]

BINS = 10
"""Of one calibration error. Assumed: usual in the field; an error of more bins is higher, from noise alone."""


class ReliabilityBins(NamedTuple):
    """Bins (B,) in ascending order of probability; those without a row are left out."""

    predicted: Floats
    """The mean probability."""
    observed: Floats
    """The share of positives."""
    low: Floats
    """Its 95 % interval's lower bound, by Wilson (1927), for rows that are independent of each other."""
    high: Floats
    counts: NDArray[np.intp]
    """How many rows."""


def brier(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """The mean squared difference of probability and label (Brier, Monthly Weather Review 1950).

    Args:
        labels: (N,) of 1, 0 and nan for unknown; unknown rows count for nothing.
        probabilities: (N,), or (N, K) for K columns, from 0 to 1.
        weights: as for `auroc`: how often a row counts, (N,), or (N, R) for R resamples.

    Returns:
        A float, or an array as `auroc` gives; nan where no weight is on a known row.

    Raises:
        ValueError: a known row's probability is not one, or as `auroc` raises.

    """
    truth, known, weighting, squeeze = _known(labels, probabilities, weights)
    return squeeze(ratio(weighting.T @ np.square(known - truth[:, None]), weighting.sum(axis=0)[:, None]))


def calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, bins: int = BINS
) -> Any:
    """The expected calibration error: the mean over rows of |mean probability − share of positives| in their bin.

    As Naeini, Cooper & Hauskrecht (AAAI 2015) define it, but for bins of equal mass, which Nixon et al. (CVPR workshops
    2019) and Roelofs et al. (AISTATS 2022) found the less biased: `reliability`'s. It is never below 0, so that of few
    rows it is above what it would be of many.

    Arguments, returns and errors are `brier`'s; fewer than one bin is a ValueError too.
    """
    _check_bins(bins)
    truth, known, weighting, squeeze = _known(labels, probabilities, weights)
    values = np.empty((weighting.shape[1], known.shape[1]))
    for k, column in enumerate(known.T):
        order = np.argsort(column)
        ordered = weighting[order]
        places = _bins(column[order], ordered, bins)
        surplus = _by_bin(places, ordered * (column[order] - truth[order])[:, None], bins)
        values[:, k] = ratio(np.abs(surplus).sum(axis=0), ordered.sum(axis=0))
    return squeeze(values)


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> ReliabilityBins:
    """Rows in bins of equal mass by probability: what was predicted there, and what was found.

    A row's place is the share of rows below it and half of those level with it, its own half included; the bin is that
    share times the number of bins, rounded down. So rows that tie are in one bin, and bins may be left without any.

    Args:
        labels: (N,) of 1, 0 and nan for unknown; unknown rows count for nothing.
        probabilities: (N,) from 0 to 1.
        bins: at most so many.

    Raises:
        ValueError: a known row's probability is not one, fewer than one bin, or as `auroc` raises.

    """
    _check_bins(bins)
    if np.ndim(probabilities) != 1:
        raise ValueError(f"probabilities must be (N,), but their shape is {np.shape(probabilities)}")
    truth, known, weighting, _ = _known(labels, probabilities, None)
    order = np.argsort(known[:, 0])
    values, ones = known[order, 0], weighting[order]
    places = _bins(values, ones, bins)
    columns = [_by_bin(places, column[:, None], bins)[:, 0] for column in (ones[:, 0], values, truth[order])]
    counts, probability, positives = (column[columns[0] > 0] for column in columns)
    intervals = [
        binomtest(int(k), int(n)).proportion_ci(0.95, method="wilson") for k, n in zip(positives, counts, strict=True)
    ]
    low, high = np.array([[interval.low, interval.high] for interval in intervals]).reshape(-1, 2).T
    return ReliabilityBins(probability / counts, positives / counts, low, high, counts.astype(np.intp))


def _known(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats, Floats, Squeeze]:
    """Of the rows with a known label: labels (n,), probabilities (n, K), weights (n, R); and the way back."""
    positive, negative, columns, weighting, squeeze = prepare(labels, probabilities, weights)
    rows = np.concatenate([positive, negative])
    known = columns[rows].astype(np.float64)
    if not ((known >= 0) & (known <= 1)).all():  # not `(known < 0).any()`: of a nan that would be false
        raise ValueError("probabilities must lie between 0 and 1, but one with a known label does not")
    if weighting is None:
        weighting = np.ones((len(columns), 1))
    truth = np.repeat([1.0, 0.0], [len(positive), len(negative)])
    return truth, known, weighting[rows].astype(np.float64), squeeze


def _bins(ascending: Floats, weights: Floats, bins: int) -> NDArray[np.intp]:
    """(n, R): the bin of each of the sorted values, whose weights are (n, R)."""
    sums = summed(weights)
    twice = sums[first_of_ties(ascending)] + sums[last_of_ties(ascending)]  # the weight below and the weight no higher
    places = np.floor(bins * twice / np.maximum(2 * sums[-1], np.finfo(float).tiny)).astype(np.intp)
    return np.asarray(np.clip(places, 0, bins - 1))  # a weight of 0 at the top end would have a bin of its own


def _by_bin(places: NDArray[np.intp], values: Floats, bins: int) -> Floats:
    """(bins, R): sums of values (n, R) over the rows of each bin."""
    keys = places + bins * np.arange(values.shape[1])
    sums = np.bincount(keys.ravel(), values.ravel(), minlength=bins * values.shape[1])
    return np.asarray(sums.reshape(-1, bins).T, dtype=np.float64)


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise ValueError(f"bins must be at least 1, but it is {bins}")
