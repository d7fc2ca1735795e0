"""AUROCs, their intervals and their differences without resampling: DeLong's covariance, patients as clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtr, ndtri

from cxr_cft.metrics.intervals import check_confidence
from cxr_cft.metrics.ranking import auroc, places

Floats = NDArray[np.float64]


class Difference(NamedTuple):
    """One value less another, its interval, and the two-sided p-value of "there is no difference"."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, eq=False)
class DeLong:
    """AUROCs of M score columns over the same rows, and how they vary together."""

    auroc: Floats
    """(M,): nan without a known positive or negative."""
    parts: Floats
    """(G, M): how far each group, in the order of `np.unique`, moves each AUROC; 0 for a group without known labels.

    All are nan with fewer than two groups that have a known positive, or that have a known negative.
    """
    groups: tuple[int, int, int]
    """How many groups have a known positive, a known negative, and either."""

    @property
    def covariance(self) -> Floats:
        """(M, M) of the AUROCs: nan where `parts` are."""
        return np.asarray(self.parts.T @ self.parts)

    def interval(self, column: int, confidence: float = 0.95) -> tuple[float, float]:
        """The AUROC's lower and upper bound, symmetric on the logit scale, which keeps them in [0, 1].

        Where the method has no answer it is not made to give one:
        - Fewer than two groups with a known positive, or with a negative, leave no variance to estimate: nan.
        - Perfect separation (AUROC 1, or 0) has variance 0, which is not certainty. Of k pairs from groups that no
          other pair shares all were won, and that has probability AUROC**k, so the lower bound is Clopper & Pearson's
          (1934) for k wins out of k, ((1 - confidence) / 2) ** (1 / k): valid, and wide. AUROC 0 is its mirror image.
        - Scores that are all the same have AUROC 0.5 on any rows: both bounds are 0.5.

        Raises ValueError if `confidence` is not between 0 and 1.
        """
        check_confidence(confidence)
        area, tail = float(self.auroc[column]), (1 - confidence) / 2
        error = float(np.linalg.norm(self.parts[:, column]))
        if np.isnan(error):
            return float("nan"), float("nan")
        if area in (0.0, 1.0):
            with_positive, with_negative, either = self.groups
            bound = float(tail ** (1 / min(with_positive, with_negative, either // 2)))
            return (bound, 1.0) if area == 1.0 else (0.0, 1 - bound)
        half_width = -ndtri(tail) * error / (area * (1 - area))  # the delta method: d logit(a) = da / (a (1 - a))
        return float(expit(logit(area) - half_width)), float(expit(logit(area) + half_width))

    def difference(self, first: int, second: int, confidence: float = 0.95) -> Difference:
        """The first column's AUROC less the second's, with a normal interval and the test of DeLong et al.

        Columns that place every row alike among the other class differ by 0, with bounds 0 and p 1. Bounds and p are
        nan where there is no variance to estimate (see `interval`), and where it is 0 for another reason, because both
        columns separate the classes perfectly, or one does and the other's scores are all the same. Where one is
        perfect and the other is anything else, the perfect one's variance counts as 0: the interval is too narrow.

        Raises ValueError if `confidence` is not between 0 and 1.
        """
        check_confidence(confidence)
        value = float(self.auroc[first] - self.auroc[second])
        # Not from the covariance's four cells: of columns that are nearly alike they would cancel to rounding errors.
        error = float(np.linalg.norm(self.parts[:, first] - self.parts[:, second]))
        perfect = all(self.auroc[column] in (0.0, 1.0) for column in (first, second))
        if perfect or np.isnan(error) or (error == 0 and value != 0):
            return Difference(value, float("nan"), float("nan"), float("nan"))
        half_width = -float(ndtri((1 - confidence) / 2)) * error
        p = 2 * float(ndtr(-abs(value) / error)) if error > 0 else 1.0
        return Difference(value, value - half_width, value + half_width, p)


def delong(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike | None = None) -> DeLong:
    """AUROCs of M score columns and their covariance.

    That of DeLong, DeLong & Clarke-Pearson (Biometrics 1988), in O(N log N) by ranks as Sun & Xu (IEEE Signal
    Processing Letters 2014). With groups it is that of Obuchowski (Biometrics 1997): rows of one group (a patient) move
    together, within a class and across the two. Groups of one row each give DeLong's. Of Obuchowski's three corrections
    n / (n - 1), each for a number of groups, the one across classes is the geometric mean of the others here, which
    makes the covariance one product of `parts`.

    Args:
        labels: (N,) of 1, 0 and nan for unknown.
        scores: (N, M) on any scale.
        groups: (N,) names or numbers; without them every row is on its own.

    Raises:
        ValueError: a shape does not fit, or as `auroc` raises.

    """
    labels, scores = np.asarray(labels, dtype=np.float64), np.asarray(scores)
    if scores.ndim != 2:
        raise ValueError(f"scores must be (N, M), but their shape is {scores.shape}")
    areas = np.asarray(auroc(labels, scores))
    names = np.arange(len(labels)) if groups is None else np.asarray(groups)
    if names.shape != labels.shape:
        raise ValueError(f"groups must be ({len(labels)},), but their shape is {names.shape}")
    codes = np.unique(names, return_inverse=True)[1]
    number = int(codes.max(initial=-1)) + 1
    classes = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    present = [np.unique(codes[rows]) for rows in classes]
    counts = len(present[0]), len(present[1]), len(np.union1d(*present))
    if min(counts) < 2:
        return DeLong(areas, np.full((number, len(areas)), np.nan), counts)
    positives, negatives = classes
    parts = np.empty((number, len(areas)))
    for column, area in enumerate(areas):
        values = scores[:, column]
        # DeLong's "structural components": the share of the other class that each row outranks, which for a positive
        # are pairs won, for a negative pairs lost.
        won = _outranked(np.sort(values[negatives]), values[positives]) - area
        lost = _outranked(np.sort(values[positives]), values[negatives]) - (1 - area)
        parts[:, column] = np.bincount(codes[positives], won, number) * (_unbiased(counts[0]) / len(positives))
        parts[:, column] -= np.bincount(codes[negatives], lost, number) * (_unbiased(counts[1]) / len(negatives))
    return DeLong(areas, parts, counts)


def mean_delong(results: Sequence[DeLong]) -> DeLong:
    """The mean over categories of AUROCs by `delong` with the same groups; each may have other rows with known labels.

    A patient moves all categories at once, which `parts` carry. Where one category has no answer the mean has none.
    Where one is perfect (AUROC 1, or 0) its variance counts as 0: the mean's interval is too narrow.

    Raises:
        ValueError: there is nothing to average.

    """
    if not results:
        raise ValueError("there is no AUROC to average")
    with_positive, with_negative, either = zip(*(result.groups for result in results), strict=True)
    return DeLong(
        np.mean([result.auroc for result in results], axis=0),
        np.mean([result.parts for result in results], axis=0),
        (min(with_positive), min(with_negative), min(either)),
    )


def delong_interval(labels: ArrayLike, scores: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """The AUROC of one score column and `DeLong.interval`, for rows that are independent of each other.

    Several rows of one patient are not: use `delong` with groups, or `bootstrap`, for them.

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
    scores = np.asarray(scores)
    if scores.ndim != 1:
        raise ValueError(f"scores must be (N,), but their shape is {scores.shape}")
    result = delong(labels, scores[:, None])
    return float(result.auroc[0]), *result.interval(0, confidence)


def _unbiased(groups: int) -> float:
    """What makes a standard deviation over groups that of a sample."""
    return float(np.sqrt(groups / (groups - 1)))


def _outranked(ascending: NDArray[np.generic], values: NDArray[np.generic]) -> Floats:
    """The share of `ascending` that each of `values` outranks, ties counting half."""
    below, level = places(ascending, values)
    return (below + level) / (2 * len(ascending))
