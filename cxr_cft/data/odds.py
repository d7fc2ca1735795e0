"""Probabilities and their logits, the same in the package and in the bundle, which carries this file.

Only the standard library and numpy: it must run where nothing else of the project is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[np.float64]]

EDGE = 1e-15
"""Probabilities are kept this far from 0 and 1, so that their logits stay finite; float64 resolves no less at 1."""


def logit(probabilities: Array) -> Array:
    """log(p / (1 − p)), finite for any p in [0, 1]."""
    inside = np.clip(probabilities, EDGE, 1.0 - EDGE)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def expit(logits: Array) -> Array:
    """1 / (1 + e^−z), without overflow."""
    smaller = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1.0, smaller) / (1.0 + smaller))
