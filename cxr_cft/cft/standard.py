"""One category's problem in units in which every feature weighs alike, for gradient and genetic search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Standardised:
    """A head's changes, counted in genes.

    Gene j moves the weight of feature j by 1 / (its standard deviation), so that one gene changes the logits of the
    data by a standard deviation of 1; the last gene moves the bias. All genes zero is the trained head.

    `features` (N, D) float32 are centred and scaled, `logits` (N,) are the trained head's, `center` and `spread` (D,)
    are the features' mean and standard deviation, `weight` (D,) and `bias` the trained head.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: float

    def head(self, genes: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """The weight (D,) and bias that genes (D + 1,) stand for."""
        change = genes[:-1] / self.spread
        return self.weight + change, float(self.bias + genes[-1] - change @ self.center)


def standardise(features: NDArray[np.float32], weight: NDArray[np.float64], bias: float) -> Standardised:
    """Pose the problem of tuning (weight, bias) on features (N, D)."""
    center = features.mean(axis=0, dtype=np.float64)
    spread = features.std(axis=0, dtype=np.float64)
    # A feature that never varies cannot tell anyone apart: its weight is left as it is.
    # Against its own size, not the others': float32 resolves no less of it.
    constant = spread <= 1e-6 * np.abs(center)
    scaled = (features - center.astype(np.float32)) * np.where(
        constant, 0.0, 1.0 / np.where(constant, 1.0, spread)
    ).astype(np.float32)
    logits = (features @ weight.astype(np.float32) + np.float32(bias)).astype(np.float32)
    return Standardised(scaled, logits, center, np.where(constant, np.inf, spread), weight, bias)
