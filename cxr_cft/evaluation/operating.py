"""What scores give at a threshold, and what probabilities are worth: by category, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_cft.data.truth import StudyLabels
from cxr_cft.evaluation.sampled import RESAMPLES, SEED, patients_of
from cxr_cft.evaluation.score import ends_or_none, or_none
from cxr_cft.metrics import (
    bootstrap,
    brier,
    calibration_error,
    percentile_interval,
    rates_at,
    resample_counts,
    sensitivity_at_specificity,
    threshold_for_sensitivity,
    too_few,
    youden_threshold,
)

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]
Statistic = Callable[..., Any]
"""Of nothing, a number for the rows as they are; of counts (N, R), one for each resample (R,)."""

# Assumed: 32 MiB of counts for each of the two resamples that are held at a time.
BLOCK_CELLS = 2**23

DRAWS = 100  # of labels, for the error of perfect calibration; assumed: their mean is then sure to about 3 %


class Estimate(NamedTuple):
    """A number and its 95 % interval by bootstrap over patients.

    Bounds are nan where fewer than `FEWEST` patients have a known positive, or a known negative, and where they would
    be level: what is the same in every resample is not certain for that.
    """

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """As `score --json` prints it, None for nan."""
        return {"value": or_none(self.value), "interval": ends_or_none((self.low, self.high))}


class Threshold(NamedTuple):
    """A threshold that was chosen on these studies (a score no lower is called positive), and what it gives on them.

    Sensitivity and specificity of the studies that chose it are optimistic. Their intervals are of the whole procedure:
    the threshold is chosen on one resample of the patients and applied to another.
    """

    threshold: Estimate
    sensitivity: Estimate
    specificity: Estimate

    def as_json(self) -> dict[str, Any]:
        """As `score --json` prints it, None for nan."""
        return {name: each.as_json() for name, each in self._asdict().items()}


class Calibration(NamedTuple):
    """What probabilities are worth beyond their ranking.

    `base_rate` is the Brier score of the share of positives given to every study; `perfect` the calibration error that
    as many studies would show on average if these very probabilities were true.
    """

    brier: Estimate
    base_rate: float
    error: Estimate
    perfect: float

    def as_json(self) -> dict[str, Any]:
        """As `score --json` prints it, None for nan."""
        return {
            "brier": self.brier.as_json(),
            "brier_of_base_rate": or_none(self.base_rate),
            "calibration_error": self.error.as_json(),
            "calibration_error_if_perfect": or_none(self.perfect),
        }


def sensitivities_at(scores: Floats, truth: StudyLabels, specificity: float) -> dict[str, Estimate]:
    """Each category's sensitivity at a specificity, of (S, C) scores in the order of the labels."""
    patients = patients_of(truth)
    return {
        category: _estimate(partial(sensitivity_at_specificity, labels, column, specificity), labels, patients)
        for category, labels, column in _columns(scores, truth)
    }


def youden_thresholds(scores: Floats, truth: StudyLabels) -> dict[str, Threshold]:
    """Each category's threshold with the highest sensitivity + specificity; nan where none is better than chance."""
    patients = patients_of(truth)
    return {
        category: _threshold(partial(youden_threshold, labels, column), labels, column, patients)
        for category, labels, column in _columns(scores, truth)
    }


def thresholds_for(scores: Floats, truth: StudyLabels, sensitivity: float) -> dict[str, Threshold]:
    """Each category's highest threshold with a sensitivity of at least the given one, above 0."""
    patients = patients_of(truth)
    return {
        category: _threshold(partial(threshold_for_sensitivity, labels, column, sensitivity), labels, column, patients)
        for category, labels, column in _columns(scores, truth)
    }


def not_probabilities(scores: Floats, truth: StudyLabels) -> dict[str, float]:
    """The categories with a score outside [0, 1], and of each the score that lies farthest outside."""
    found = {}
    for category, _, column in _columns(scores, truth):
        farthest = column[np.argmax(np.abs(column - 0.5))]
        if not 0 <= farthest <= 1:
            found[category] = float(farthest)
    return found


def calibrations(scores: Floats, truth: StudyLabels) -> dict[str, Calibration]:
    """The calibration of each category whose scores are probabilities, from 0 to 1.

    The error is never below 0, so that every resample, whose studies are fewer, shows more of it: its interval has
    their spread, about the error that is there.
    """
    patients, strange = patients_of(truth), not_probabilities(scores, truth)
    found = {}
    for category, labels, column in _columns(scores, truth):
        if category in strange:
            continue
        rng = np.random.default_rng(SEED)  # of each category, whatever others there are
        share = float(np.nanmean(labels))
        drawn = [
            calibration_error(np.where(np.isnan(labels), np.nan, rng.random(len(labels)) < column), column)
            for _ in range(DRAWS)
        ]
        score = _estimate(partial(brier, labels, column), labels, patients)
        error = _estimate(partial(calibration_error, labels, column), labels, patients, centred=True)
        found[category] = Calibration(score, share * (1 - share), error, float(np.mean(drawn)))
    return found


def _columns(scores: Floats, truth: StudyLabels) -> list[tuple[str, Floats, Floats]]:
    """Name, labels (S,) and scores (S,) of the categories that have known labels and scores."""
    there = [
        c for c in range(len(truth.categories)) if not (np.isnan(scores[:, c]) | np.isnan(truth.labels[:, c])).all()
    ]
    return [(truth.categories[c], truth.labels[:, c], scores[:, c]) for c in there]


def _estimate(statistic: Statistic, labels: Floats, patients: NDArray[np.intp], *, centred: bool = False) -> Estimate:
    if too_few(labels, patients):
        return Estimate(float(statistic()), np.nan, np.nan)
    found = bootstrap(statistic, patients, rng=np.random.default_rng(SEED), resamples=RESAMPLES)
    value, low, high = _unless_level(found.estimate, found.low, found.high)
    if centred and not np.isnan(low):
        apart = value - float(np.nanmean(found.samples))
        low, high = max(low + apart, 0.0), high + apart
    return Estimate(value, low, high)


def _threshold(choose: Statistic, labels: Floats, column: Floats, patients: NDArray[np.intp]) -> Threshold:
    value = choose()
    rates = (np.nan, np.nan) if np.isnan(value) else rates_at(labels, column, value)[:2]
    values = (value, *rates)
    if too_few(labels, patients):
        return Threshold(*(Estimate(float(each), np.nan, np.nan) for each in values))
    rng = np.random.default_rng(SEED)
    samples = np.empty((3, RESAMPLES))
    block = max(1, BLOCK_CELLS // len(patients))
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        chosen = choose(resample_counts(patients, size, rng))
        samples[:, start : start + size] = [
            chosen, *_rates(labels, column, chosen, resample_counts(patients, size, rng)),
        ]  # fmt: skip
    low, high = percentile_interval(samples.T)
    return Threshold(*(_unless_level(*each) for each in zip(values, low, high, strict=True)))


def _unless_level(value: Any, low: Any, high: Any) -> Estimate:
    """Without bounds where they are level."""
    return Estimate(float(value), *((np.nan, np.nan) if low == high else (float(low), float(high))))


def _rates(labels: Floats, column: Floats, thresholds: Floats, counts: Counts) -> tuple[Floats, Floats]:
    """Sensitivity and specificity (R,) of each resample at its own threshold, nan where there is none."""
    rates = []
    for label, called in ((1.0, np.greater_equal), (0.0, np.less)):
        rows = labels == label
        total = counts[rows].sum(axis=0)
        right = np.einsum("nr,nr->r", counts[rows], called(column[rows, None], thresholds), dtype=np.float64)
        known = (total > 0) & ~np.isnan(thresholds)
        rates.append(np.divide(right, total, out=np.full(len(total), np.nan), where=known))
    return rates[0], rates[1]
