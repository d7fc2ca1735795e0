"""How members' scores become one probability: the same in the package and in the bundle, which carries this file.

Only the standard library and numpy: it must run where nothing else of the project is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_cft.data.odds import expit, logit

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[np.float64]]
    Scale = Mapping[str, Any]
    Scales = Sequence[Sequence[Scale | None]]

TAIL = 0.01  # of a curve's height: how far scores beyond its ends can still rise, so that no two tie (assumed)


def scale_logit(scores: Array, edge: float | Array) -> Array:
    """The logits that a scale of logits is of: 0 and 1 count as `edge` and 1 − `edge`, the rest move with them.

    An edge of 0 leaves probabilities as they are.
    """
    return logit(edge + (1.0 - 2.0 * edge) * scores)


def on_scale(x: Array, scale: Scale) -> Array:
    """Scores of one member and category, or their logits where the scale is of logits, brought to the common scale.

    A line {"logit", "edge", "slope", "intercept", "low", "high"}, which bends beyond its limits, or a curve {"logit",
    "x", "y"} of straight parts between knots, which rise. Both are as given in an ensemble file and submission.json.
    """
    if "slope" in scale:
        return np.asarray(_within(x, scale.get("low"), scale.get("high")) * scale["slope"] + scale["intercept"])
    knots, heights = np.asarray(scale["x"], dtype=np.float64), np.asarray(scale["y"], dtype=np.float64)
    width, height = knots[-1] - knots[0], heights[-1] - heights[0]
    beyond, short = np.maximum(x - knots[-1], 0.0), np.maximum(knots[0] - x, 0.0)
    tail = TAIL * height * (beyond / (width + beyond) - short / (width + short))
    return np.asarray(np.interp(x, knots, heights) + tail)


def _within(x: Array, low: float | None, high: float | None) -> Array:
    """`x` as it is between the limits; beyond them it rises more and more slowly, by an eighth of their distance.

    So a member's first exact 1 is no logit of 34 among others of 4, and yet no two scores tie.
    """
    if low is None or high is None:
        return x
    room = max((high - low) / 8, np.finfo(np.float64).tiny)
    beyond, short = np.maximum(x - high, 0.0), np.maximum(low - x, 0.0)
    return np.asarray(np.clip(x, low, high) + room * (beyond / (room + beyond) - short / (room + short)))


def to_scale(scores: Array, scales: Scales) -> Array:
    """Members' scores (M, S, C) on the common scale; nan stays, and a member without a category has no scale there."""
    found = np.full(scores.shape, np.nan)
    for m, row in enumerate(scales):
        for c, scale in enumerate(row):
            if scale is not None:
                x = scale_logit(scores[m, :, c], scale.get("edge", 0.0)) if scale["logit"] else scores[m, :, c]
                found[m, :, c] = on_scale(x, scale)
    return found


def weighted(z: Array, weights: Array) -> Array:
    """The mean (S, C) of scores on the common scale (M, S, C) under weights (M, C), nan left out."""
    there = np.where(np.isnan(z), 0.0, weights[:, None, :])
    total = there.sum(axis=0)
    summed = (there * np.nan_to_num(z)).sum(axis=0)
    return np.asarray(np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0))


def blend_scores(scores: Array, weights: Array, scales: Scales, slope: Array, intercept: Array) -> Array:
    """The ensemble's probabilities (S, C) of members' scores (M, S, C) under weights (M, C).

    The weighted mean on the common scale, times `slope` (C,) plus `intercept` (C,), is the logit. A study for which a
    member has nan is blended from the others; for which all have, it is nan.
    """
    return expit(weighted(to_scale(scores, scales), weights) * slope + intercept)
