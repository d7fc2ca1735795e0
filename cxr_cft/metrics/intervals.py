"""From resampled values to an interval or a p-value, p-values of several comparisons, what a confidence may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Assumed: above this share of resamples without a value, the rest are too chosen a sample to read an interval from.
MAX_UNDEFINED = 0.05


def percentile_interval(samples: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper bound (...) of resampled values (R, ...).

    nan resamples are left out; where they are more than `MAX_UNDEFINED` of all, both bounds are nan.

    Raises:
        ValueError: `confidence` is not between 0 and 1, or there are no samples.

    """
    check_confidence(confidence)
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim == 0 or not len(samples):
        raise ValueError("an interval needs at least one resample")
    hopeless = np.isnan(samples).mean(axis=0) > MAX_UNDEFINED
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    # nanquantile warns of a column of nothing but nan, so hopeless ones are filled and blanked afterwards.
    bounds: Any = np.nanquantile(np.where(hopeless, 0.0, samples), tails, axis=0)
    low, high = (np.where(hopeless, np.nan, bound) for bound in bounds)
    return low, high


def bootstrap_p(samples: ArrayLike) -> float:
    """The two-sided p-value of "the difference is 0" from resampled differences (R,).

    Twice the share of resamples on the rarer side of 0, those at 0 counting for both sides, with one added to count and
    number as Davison & Hinkley (Bootstrap Methods and their Application, 1997, section 4.2) do; at most 1. It is below
    0.05 about where the 95 % percentile interval leaves 0 out. Its floor is 2 / (R + 1): of K comparisons none can be
    found at level a, after a correction by Holm, from fewer than 2 K / a resamples.

    nan resamples are left out; where they are more than `MAX_UNDEFINED` of all, the answer is nan.

    Raises:
        ValueError: the samples are not (R,), or there are none.

    """
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"a p-value needs (R,) resamples, at least one, but their shape is {samples.shape}")
    undefined = np.isnan(samples)
    if undefined.mean() > MAX_UNDEFINED:
        return float("nan")
    defined = samples[~undefined]
    rarer = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return float(min(1.0, 2 * (1 + rarer) / (1 + len(defined))))


def holm(p: ArrayLike) -> Floats:
    """The p-values (K,) corrected for their number by Holm (Scandinavian Journal of Statistics 1979).

    Those below a level are found with no more than that chance of a single false one, however the tests depend on each
    other. nan stays nan and does not count as a comparison.

    Raises:
        ValueError: the values are not (K,), or one is not between 0 and 1.

    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1:
        raise ValueError(f"p-values must be (K,), but their shape is {p.shape}")
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p-values must lie between 0 and 1")
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # nan comes last
    corrected = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def check_confidence(confidence: float) -> None:
    """Refuse what is not a coverage.

    Raises:
        ValueError: `confidence` is not between 0 and 1.

    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, but it is {confidence:g}")
