"""From resampled values to an interval, and what a confidence level may be."""

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


def check_confidence(confidence: float) -> None:
    """Refuse what is not a coverage.

    Raises:
        ValueError: `confidence` is not between 0 and 1.

    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, but it is {confidence:g}")
