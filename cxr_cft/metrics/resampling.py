"""How far a score would move with other patients: the bootstrap over groups, all resamples at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_cft.metrics.counted import Counted, counted_auroc, counted_average_precision
from cxr_cft.metrics.intervals import check_confidence, percentile_interval
from cxr_cft.metrics.ranking import Metric, auroc, average_precision, per_category

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]

# Assumed: about 64 MiB of weights in float64 at a time, for a working set of a few times that.
BLOCK_CELLS = 2**23

# At a time of AUROC and average precision, whose working set then is a few MiB: half and four times as many take longer
# (25,000 rows of 16,000 groups, measured).
BLOCK_RESAMPLES = 64


@dataclass(frozen=True)
class Bootstrap:
    """A statistic, its resampled values and their percentile interval.

    Two statistics resampled together (two models in one `bootstrap_auroc`) share their resamples, so the interval of
    their difference is `percentile_interval(result.samples[:, 0] - result.samples[:, 1])`.
    """

    estimate: Floats
    """(...): the statistic of the rows as they are."""
    samples: Floats
    """(R, ...): the statistic of each resample, nan where it has none."""
    low: Floats
    """(...): lower bound, nan where more than `MAX_UNDEFINED` of the resamples are."""
    high: Floats
    """(...): upper bound, likewise."""


def bootstrap(
    statistic: Callable[[Counts], ArrayLike],
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Bootstrap:
    """Resample whole groups with replacement and give the percentile interval (Efron & Tibshirani 1993) of a statistic.

    Args:
        statistic: takes (N, R) counts, how often each row is in each of R resamples, and returns (R, ...); R varies
            from call to call. `lambda counts: auroc(labels, scores, counts)` is one.
        groups: (N,) names or numbers; rows of one group (a patient) come and go together.
        rng: the only source of randomness.
        resamples: how many.
        confidence: the interval's coverage, between 0 and 1.

    Returns:
        The statistic of the rows as they are, of every resample, and the interval.

    Raises:
        ValueError: no rows, no resamples, or `confidence` not between 0 and 1.

    """
    codes, number = _codes(groups, resamples)
    check_confidence(confidence)
    estimate = np.asarray(statistic(np.ones((len(codes), 1), dtype=np.int32)), dtype=np.float64)[0]
    samples = np.empty((resamples, *np.shape(estimate)))
    block = max(1, BLOCK_CELLS // len(codes))
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        samples[start:stop] = statistic(_draw(number, stop - start, rng)[codes])
    low, high = percentile_interval(samples, confidence)
    return Bootstrap(np.asarray(estimate), samples, low, high)


def bootstrap_auroc(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
    threads: int = 1,
) -> Bootstrap:
    """`bootstrap` of every category's AUROC, for one model or for several on the same resamples.

    Args:
        labels: (N, C) of 1, 0 and nan for unknown.
        scores: (N, C), or (M, N, C) for M models.
        groups: (N,), as for `bootstrap`; likewise the rest.
        rng: the only source of randomness.
        resamples: how many, R.
        confidence: the intervals' coverage.
        threads: how many categories and models are computed at a time; the numbers are the same.

    Returns:
        Estimates and bounds of shape (C,) or (M, C), samples (R, C) or (R, M, C). A resample without both classes of a
        category is nan there. Perfect separation (AUROC 1, or 0) is perfect in every resample, which is not certainty:
        its bounds are nan, and `delong` has some. The mean over categories has the interval
        `percentile_interval(samples.mean(axis=-1))`, which is too narrow where one of them is perfect.

    Raises:
        ValueError: as `bootstrap` and `per_category` raise.

    """
    return _bootstrap_counted(auroc, counted_auroc, labels, scores, groups, rng, resamples, confidence, threads)


def bootstrap_average_precision(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    confidence: float = 0.95,
    threads: int = 1,
) -> Bootstrap:
    """`bootstrap_auroc` of the average precision; the same seed draws the same resamples."""
    return _bootstrap_counted(
        average_precision, counted_average_precision, labels, scores, groups, rng, resamples, confidence, threads
    )


def _bootstrap_counted(
    metric: Metric,
    counted: Callable[[ArrayLike, ArrayLike, NDArray[np.intp], int], Counted],
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    rng: np.random.Generator,
    resamples: int,
    confidence: float,
    threads: int,
) -> Bootstrap:
    """`bootstrap` of `per_category(metric, ...)`, by what `counted` makes of every model's categories."""
    codes, number = _codes(groups, resamples)
    check_confidence(confidence)
    labels, scores = np.asarray(labels), np.asarray(scores)
    if len(codes) != len(labels):
        raise ValueError(f"groups must be ({len(labels)},), but their shape is ({len(codes)},)")
    estimate = per_category(metric, labels, scores)
    models = scores.reshape(-1, *labels.shape)
    rankings = [counted(labels[:, c], model[:, c], codes, number) for model in models for c in range(labels.shape[1])]
    # Sums of whole numbers up to 2**24 are exact in float32, and take half of float64's time.
    most = number * int(np.bincount(codes).max())
    dtype = np.float32 if most <= 2**24 else np.float64
    samples = np.empty((resamples, len(rankings)))
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, resamples, BLOCK_RESAMPLES):
            stop = min(start + BLOCK_RESAMPLES, resamples)
            counts = _draw(number, stop - start, rng).astype(dtype)
            for column, values in enumerate(pool.map(lambda ranking, counts=counts: ranking(counts), rankings)):
                samples[start:stop, column] = values
    samples = samples.reshape(resamples, *estimate.shape)
    perfect = np.isin(estimate, [0, 1])
    low, high = (np.where(perfect, np.nan, bound) for bound in percentile_interval(samples, confidence))
    return Bootstrap(estimate, samples, low, high)


def resample_counts(groups: ArrayLike, resamples: int, rng: np.random.Generator) -> Counts:
    """(N, R): how often each of the N rows is in each of R resamples of whole groups, as `bootstrap` draws them.

    Raises:
        ValueError: no rows, or no resamples.

    """
    codes, number = _codes(groups, resamples)
    return _draw(number, resamples, rng)[codes]


def _codes(groups: ArrayLike, resamples: int) -> tuple[NDArray[np.intp], int]:
    """Each row's group as a number below the number of groups, and that number."""
    groups = np.asarray(groups)
    if groups.ndim != 1 or not len(groups):
        raise ValueError(f"groups must be (N,) with at least one row, but their shape is {groups.shape}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, but it is {resamples}")
    names, codes = np.unique(groups, return_inverse=True)
    return codes, len(names)


def _draw(number: int, resamples: int, rng: np.random.Generator) -> Counts:
    """Counts (G, R) of G groups. Drawn one resample after the other, so that blocks of any size give the same ones."""
    drawn = rng.integers(number, size=(resamples, number))
    drawn += np.arange(resamples)[:, None] * number
    counts = np.bincount(drawn.ravel(), minlength=resamples * number).reshape(resamples, number)
    return np.ascontiguousarray(counts.T, dtype=np.int32)
