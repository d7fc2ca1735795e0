"""One category's problem in units in which every feature weighs alike, on the device that does the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

SAMPLE = 4
"""Rows, in multiples of the features, that the covariance is estimated from. It only shapes the steps of a search, not
where they lead (assumed)."""

CHUNK = 1024  # rows that are worked on at a time, so that they stay in the processor's cache (measured)


@dataclass(frozen=True, eq=False)
class Standardised:
    """A head's changes, counted in genes.

    Gene j moves the weight of feature j by 1 / (its standard deviation), so that one gene changes the logits of the
    data by a standard deviation of 1; the last gene moves the bias. All genes zero is the trained head.

    `features` (N, D) float32 are centred and scaled, `logits` (N,) float32 are the trained head's, `labels` (N,) are 1
    and 0, `center` and `spread` (D,) are the features' mean and standard deviation, infinite where a feature never
    varies; `weight` (D,) and `bias` are the trained head.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    center: Floats
    spread: Floats
    weight: Floats
    bias: float

    def heads(self, genes: Floats) -> tuple[Floats, Floats]:
        """The weights (K, D) and biases (K,) that genes (K, D + 1) stand for."""
        change = genes[:, :-1] / self.spread
        return self.weight + change, self.bias + genes[:, -1] - change @ self.center

    @cached_property
    def axes(self) -> tuple[Tensor, Tensor]:
        """Principal axes of the features: variances (R,) ascending and directions (D, R), R at most D.

        Of a sample of the rows, evenly spaced; float noise is cut off.
        """
        rows, dimension = self.features.shape
        sample = self.features[:: max(1, rows // (SAMPLE * dimension))]
        if len(sample) < dimension:  # fewer rows than features: their axes lie in the span of the rows
            variances, sides = torch.linalg.eigh(sample @ sample.T / len(sample))
            kept = variances > variances[-1] * 1e-6
            variances = variances[kept]
            return variances, sample.T @ (sides[:, kept] / (variances * len(sample)).sqrt())
        variances, directions = torch.linalg.eigh(sample.T @ sample / len(sample))
        kept = variances > variances[-1] * 1e-6
        return variances[kept], directions[:, kept]


def standardise(features: Tensor, labels: Tensor, weight: Floats, bias: float) -> Standardised:
    """Pose the problem of tuning (weight, bias) on features (N, D) float32, which are overwritten."""
    device = features.device
    head = torch.from_numpy(weight.astype(np.float32)).to(device)
    logits = torch.empty(len(features), device=device)
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=device)
    for chunk, scores in zip(torch.split(features, CHUNK), torch.split(logits, CHUNK), strict=True):
        torch.mv(chunk, head, out=scores)
        total += chunk.sum(0)
    logits += bias
    center = total / len(features)
    squares = torch.zeros_like(total)
    for chunk in torch.split(features, CHUNK):
        chunk -= center.float()
        squares += chunk.square().sum(0)
    # The mean was rounded to float32 when it was taken off; around a feature far from zero that is no small matter.
    spread = (squares / len(features)).sqrt()
    # A feature that never varies cannot tell anyone apart: its weight is left as it is.
    # Against its own size, not the others': float32 resolves no less of it.
    constant = spread <= 1e-6 * center.abs()
    scale = torch.where(constant, 0.0, 1 / spread).float()
    for chunk in torch.split(features, CHUNK):
        chunk *= scale
    spread = torch.where(constant, torch.inf, spread)
    return Standardised(
        features, logits, labels, center.float().double().cpu().numpy(), spread.cpu().numpy(), weight, bias
    )
