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

TOGETHER = 64  # heads whose logits are in memory at once (assumed)
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

    def settled(self, genes: Tensor) -> Tensor:
        """Genes (K, D + 1) with a bias that gives probabilities the labels' mean, whatever bias they came with.

        No ranking depends on it; for BCE it is the best one.
        """
        rate = float(self.labels.mean())
        settled = genes.clone()
        if not len(genes):
            return settled
        for some in torch.split(settled, TOGETHER):
            logits = torch.addmm(self.logits, some[:, :-1], self.features.T) + some[:, -1:]
            some[:, -1] += settled_bias(logits, rate)
        return settled

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


def settled_bias(logits: Tensor, rate: float) -> Tensor:
    """What to add to the logits (K, N) so that their mean probability is `rate`: (K,), by bracketed Newton steps."""
    shift = torch.zeros(len(logits), device=logits.device)
    low, high = shift - 1e4, shift + 1e4
    for _ in range(60):
        probabilities = torch.sigmoid(logits + shift[:, None])
        gap = probabilities.mean(1) - rate
        low, high = torch.where(gap > 0, low, shift), torch.where(gap > 0, shift, high)
        slope = (probabilities * (1 - probabilities)).mean(1)
        newton = shift - gap / slope.clamp(min=1e-12)
        inside = (newton > low) & (newton < high)  # where Newton leaves the bracket, halve it
        following = torch.where(inside, newton, (low + high) / 2)
        following = torch.where(gap == 0, shift, following)  # sure heads have many such biases: the nearest will do
        done = (following - shift).abs().max() < 1e-5
        shift = following
        if done:
            break
    return shift


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
