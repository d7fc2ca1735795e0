"""Where three radiologists stand against a model's ROC curve, by the rule of the CheXpert competition."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve  # type: ignore[import-untyped]


class OperatingPoint(NamedTuple):
    """One reader of one category: shares of the negatives and of the positives that were called right."""

    specificity: float
    sensitivity: float


@functools.cache
def radiologist_points() -> Mapping[str, tuple[OperatingPoint, ...]]:
    """The three radiologists' operating points for each of CheXpert's five competition categories.

    Measured on CheXpert's test set and published with the competition's evaluation.
    """
    text = resources.files("cxr_cft.metrics").joinpath("radiologists.json").read_text(encoding="utf-8")
    return MappingProxyType(
        {name: tuple(OperatingPoint(**point) for point in points) for name, points in json.loads(text).items()}
    )


def radiologists_under_roc(labels: ArrayLike, scores: ArrayLike, points: Iterable[OperatingPoint]) -> int:
    """How many of the radiologists' points count as lying under the ROC curve of the scores.

    The competition's rule, step by step: the curve is scikit-learn's `roc_curve` with its default arguments; from a
    point at x = 1 - specificity, walk to the first curve point with a false positive rate of at least x; the true
    positive rate of the curve point *before* that one must reach the point's sensitivity. Nothing is interpolated.

    At x = 0 the first curve point, (0, 0), is itself the one walked to and none lies before it. Its own true positive
    rate, 0, is used, so that a reader without false alarms lies under no curve unless without a hit as well. (None of
    the published points has x = 0.)

    Args:
        labels: (N,) of 1, 0 and nan for unknown.
        scores: (N,) on any scale; two that are equal are one curve point, so saturated or rounded scores lose points.
        points: (specificity, sensitivity) pairs, such as `radiologist_points()["Edema"]`.

    Raises:
        ValueError: a shape does not fit, a known score is not finite, or there is no known positive or no negative.

    """
    labels, scores = np.asarray(labels, dtype=np.float64), np.asarray(scores)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"labels and scores must be (N,), but their shapes are {labels.shape} and {scores.shape}")
    known = ~np.isnan(labels)
    labels, scores = labels[known], scores[known]
    if set(np.unique(labels)) != {0.0, 1.0}:
        raise ValueError("a ROC curve needs labels of 1 and of 0, at least one of each, and nothing else but nan")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite, but there is a nan or an infinity among those with a known label")
    false_rate, true_rate, _ = roc_curve(labels, scores)
    under = 0
    for specificity, sensitivity in points:
        reached = int(np.searchsorted(false_rate, 1 - specificity, side="left"))
        under += bool(true_rate[max(reached - 1, 0)] >= sensitivity)
    return under
