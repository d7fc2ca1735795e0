"""How members' scores become one probability: the same in the package and in the bundle, which carries this file.

Only the standard library and numpy: it must run where nothing else of the project is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_cft.data.odds import expit, logit

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[np.float64]]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]


def standardise(scores: Array, probability: Flags, center: Array, spread: Array) -> Array:
    """Bring members' scores (M, S, C) to one scale: (x − center) / spread, x the logit where scores are probabilities.

    `probability` is (M, C) of booleans, `center` and `spread` are (M, C), measured on the studies that the weights were
    searched on. A member without a prediction for a study has nan there, and keeps it.
    """
    x = np.where(probability[:, None, :], logit(scores), scores)
    return np.asarray((x - center[:, None, :]) / spread[:, None, :])


def blend_scores(scores: Array, weights: Array, probability: Flags, center: Array, spread: Array) -> Array:
    """The ensemble's probabilities (S, C) of members' scores (M, S, C) under weights (M,), which sum to 1.

    The weighted mean of standardised scores goes back through the average member's logit scale, so that it reads as a
    probability. A study for which a member has nan is blended from the others; for which all have, it is nan.
    """
    z = standardise(scores, probability, center, spread)
    there = np.where(np.isnan(z), 0.0, weights[:, None, None])
    total = there.sum(axis=0)
    mean = np.divide((there * np.nan_to_num(z)).sum(axis=0), total, out=np.full(total.shape, np.nan), where=total > 0)
    # Scores of other tools have no logit scale: those that do lend theirs, else the standard one serves.
    share = weights[:, None] * probability
    lent = share.sum(axis=0)
    out_center = np.divide((share * center).sum(axis=0), lent, out=np.zeros_like(lent), where=lent > 0)
    out_spread = np.divide((share * spread).sum(axis=0), lent, out=np.ones_like(lent), where=lent > 0)
    return expit(mean * out_spread + out_center)
