"""The scales on which members' scores can be averaged, each with its parameters measured on labelled studies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from cxr_cft.data.odds import EDGE, expit

Floats = NDArray[np.float64]
Scale = dict[str, Any]

FLAT = 1e-9  # scores that vary by less, of their size, say nothing: scaled up, it would be rounding noise (assumed)
KNOTS = 257  # of a curve of ranks: a step is 0.4 % of the studies (assumed)
ITERATIONS = 25  # of Newton's method for two parameters, which takes at most eleven (measured)


def fit_scales(kind: str, scores: Floats, logits: Floats, labels: Floats, edges: Floats) -> list[list[Scale | None]]:
    """Scales of one kind for members' scores (M, S, C), as `blend.on_scale` reads them; None where a member has nan.

    `logits` (M, S, C) are those of scores that are probabilities, with the edges (M, C) that `edges_of` gives; of
    others a scale of logits takes the scores, standardised. `labels` (S, C) are 1, 0 and nan; only Platt and isotonic
    calibration look at them, and where a category has not both classes they fall back to `zlogit`.
    """
    fit = SCALES[kind]
    found: list[list[Scale | None]] = []
    for m in range(len(scores)):
        row: list[Scale | None] = []
        for c in range(scores.shape[2]):
            x, edge = scores[m, :, c], float(edges[m, c])
            if np.isnan(x).any():
                row.append(None)
                continue
            z = None if np.isnan(edge) else logits[m, :, c]
            scale = fit(x, z, labels[:, c])
            if scale["logit"]:
                scale["edge"] = edge
            if "slope" in scale:
                scale |= _limits(x if z is None or not scale["logit"] else z)
            row.append(scale)
        found.append(row)
    return found


def edges_of(scores: Floats) -> Floats:
    """How far inside [0, 1] the logits of members' scores (M, S, C) begin, (M, C); nan where they are no probabilities.

    0 but for a member that writes 0 or 1 itself, as one that rounds does: half the smallest distance that it keeps from
    them otherwise. An exact 0 would count as a logit of −34 beside the −4.6 of 0.01, and be an outlier in any mean:
    rounding ten sure members to two decimals cost equal weights 0.005 of AUROC (measured; 0.000 with this).
    """
    inside = ((scores >= 0) & (scores <= 1)).all(axis=1)
    distance = np.minimum(scores, 1 - scores)
    kept = np.where(distance > 0, distance, 0.5).min(axis=1)
    edges = np.where((distance == 0).any(axis=1), np.maximum(kept / 2, EDGE), 0.0)
    return np.where(inside, edges, np.nan)


def _line(logit: bool, slope: float = 1.0, intercept: float = 0.0) -> Scale:
    return {"logit": logit, "slope": float(slope), "intercept": float(intercept)}


def _limits(x: Floats) -> Scale:
    """How far a line goes: beyond the scores that were seen by half of what these are apart."""
    low, high = (float(x.min()), float(x.max())) if len(x) else (0.0, 0.0)
    return {"low": low - (high - low) / 2, "high": high + (high - low) / 2}


def _standard(x: Floats, logit: bool) -> Scale:
    center, spread = (float(x.mean()), float(x.std())) if len(x) else (0.0, 0.0)
    size = float(np.abs(x).max(initial=0.0))
    slope = 1.0 / spread if spread > FLAT * size else 1.0 / max(size, 1.0)
    return _line(logit, slope, -center * slope)


def _none(x: Floats, logits: Floats | None, labels: Floats) -> Scale:  # noqa: ARG001
    """The scores as they are."""
    return _line(logit=False)


def _logit(x: Floats, logits: Floats | None, labels: Floats) -> Scale:
    """Logits as they are: a member that is surer counts for more."""
    return _zscore(x, None, labels) if logits is None else _line(logit=True)


def _zscore(x: Floats, logits: Floats | None, labels: Floats) -> Scale:  # noqa: ARG001
    """Scores of mean 0 and deviation 1."""
    return _standard(x, logit=False)


def _zlogit(x: Floats, logits: Floats | None, labels: Floats) -> Scale:
    """Logits of mean 0 and deviation 1."""
    return _zscore(x, None, labels) if logits is None else _standard(logits, logit=True)


def _rank(x: Floats, logits: Floats | None, labels: Floats) -> Scale:  # noqa: ARG001
    """The share of studies that score lower, ties counting half."""
    values, counts = np.unique(x, return_counts=True)
    if len(values) < 2:
        return _line(logit=False, slope=0.0, intercept=0.5)
    shares = (np.cumsum(counts) - counts / 2) / len(x)
    kept = np.unique(np.linspace(0, len(values) - 1, min(KNOTS, len(values))).round().astype(int))
    return {"logit": False, "x": values[kept].tolist(), "y": shares[kept].tolist()}


def _platt(x: Floats, logits: Floats | None, labels: Floats) -> Scale:
    """The logit of the chance of a positive, linear in the member's own logit (Platt 1999, with his priors).

    A member whose scores fall as the chance rises gets a slope of 0: it is thought to know nothing, not to lie.
    """
    known = ~np.isnan(labels)
    positives, total = int((labels[known] == 1).sum()), int(known.sum())
    standard = _zlogit(x, logits, labels)
    if not 0 < positives < total:
        return standard
    z = (x if logits is None else logits)[known] * standard["slope"] + standard["intercept"]
    target = np.where(labels[known] == 1, (positives + 1) / (positives + 2), 1 / (total - positives + 2))
    slope, intercept = _logistic(z, target)
    if slope <= 0:
        slope, intercept = 0.0, float(np.log(target.mean() / (1 - target.mean())))
    return _line(standard["logit"], slope * standard["slope"], slope * standard["intercept"] + intercept)


def _logistic(z: Floats, target: Floats) -> tuple[float, float]:
    """Slope and intercept of a logistic regression of one variable, by Newton's method."""
    slope, intercept = 0.0, float(np.log(target.mean() / (1 - target.mean())))
    if z.std() <= FLAT:
        return slope, intercept

    def loss(slope: float, intercept: float) -> float:
        logits = slope * z + intercept
        return float((np.logaddexp(0, logits) - target * logits).sum())

    reached = loss(slope, intercept)
    for _ in range(ITERATIONS):
        p = expit(slope * z + intercept)
        wrong, curve = target - p, p * (1 - p) + 1e-12
        center = (curve * z).sum() / curve.sum()
        turn = (wrong * (z - center)).sum() / (curve * np.square(z - center)).sum()
        shift = wrong.sum() / curve.sum() - turn * center
        # Halved while it overshoots, which a full step does where the classes are far apart.
        size = 1.0
        while (found := loss(slope + size * turn, intercept + size * shift)) > reached and size > FLAT:
            size /= 2
        if found > reached:
            break
        slope, intercept = slope + size * turn, intercept + size * shift
        gain, reached = reached - found, found
        if gain <= 1e-12 * reached:
            break
    return float(slope), float(intercept)


def _isotonic(x: Floats, logits: Floats | None, labels: Floats) -> Scale:
    """The chance of a positive, which never falls as the score rises: isotonic regression.

    Its steps are joined by straight lines between their centres (Oron & Flournoy 2017), since scores that share a step
    would tie.
    """
    known = ~np.isnan(labels)
    positives, total = int((labels[known] == 1).sum()), int(known.sum())
    if not 0 < positives < total:
        return _zlogit(x, logits, labels)
    values, place, counts = np.unique(x[known], return_inverse=True, return_counts=True)
    shares = np.bincount(place, weights=labels[known]) / counts
    fitted = isotonic_regression(shares, weights=counts).x
    heights, first, step = np.unique(fitted, return_index=True, return_inverse=True)
    if len(heights) < 2:
        return _line(logit=False, slope=0.0, intercept=float(heights[0]))
    centres = np.bincount(step, weights=values * counts) / np.bincount(step, weights=counts)
    last = np.append(first[1:], len(values)) - 1
    centres = np.clip(centres, values[first], values[last])  # as rounding could move one out of its step
    return {"logit": False, "x": centres.tolist(), "y": heights.tolist()}


PLAIN: dict[str, Callable[[Floats, Floats | None, Floats], Scale]] = {
    "zlogit": _zlogit,
    "zscore": _zscore,
    "rank": _rank,
    "logit": _logit,
    "none": _none,
}
"""Scales that labels have no part in, the default first: on unseen studies of members of many hands, equal weights on
it were better than, or within 0.0001 of, those on any other (measured, `make bench ARGS=ensemble_scale`)."""

COMPARABLE = ("zlogit", "zscore", "rank")
"""Those on which every member varies alike, so that a weight says all of what a member counts for."""

CALIBRATED: dict[str, Callable[[Floats, Floats | None, Floats], Scale]] = {"platt": _platt, "isotonic": _isotonic}
"""Scales fitted to the labels: flat for a member of noise, so that equal weights on them weigh by what is known."""

SCALES = {**PLAIN, **CALIBRATED}
