"""Minimise a loss of affine logits for many strengths of a pull at once: L-BFGS that knows the features' covariance.

One step costs two products with the features, whatever the number of pulls: logits are affine in the genes, so that a
line search needs none. The curvature of a loss of affine logits is nearly a multiple of the features' covariance, hence
its inverse, shifted by each pull, is where L-BFGS begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from cxr_cft.cft.standard import Standardised

Loss = Callable[[Tensor, Tensor], Tensor]

STEPS = 60  # at most (assumed); about ten are taken where rows outnumber features (measured)
MEMORY = 10  # pairs of steps and gradients that L-BFGS remembers; 10 is scipy's default
TOLERANCE = 1e-4
"""A pull rests when the decrease that its next step promises is this share of its first step's, or of the loss of the
best constant where that is less: the first step of a head that is sure and wrong promises too much to go by (assumed).
"""

HALVINGS = 20  # of a step, before a pull gives up (assumed)
SUFFICIENT = 1e-4  # Armijo's constant (Nocedal & Wright, Numerical Optimization, 2nd edition, chapter 3.1)


def minimise(loss: Loss, problem: Standardised, pulls: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise, for each of the pulls (K,), from the trained head and with the bias free.

    The objective is

        mean loss(logits, labels) + pull / 2 · ‖genes of the weight‖²

    Returns the genes (K, D + 1) where each came to rest, and those (M, D + 1) on the way there: every pull's after each
    of its steps.
    """
    search = _Search(loss, problem, pulls)
    way: list[Tensor] = []
    while len(way) < STEPS and search.step():
        way.append(search.genes[search.active])
    return search.genes, torch.cat(way) if way else search.genes[:0]


class _Search:
    """The state of all pulls, a row each; `active` are the numbers of those that have not come to rest.

    Rows, because the transposed products of a few columns with many features are tens of times slower (measured, MKL).
    """

    def __init__(self, loss: Loss, problem: Standardised, pulls: Tensor):
        self.loss = loss
        self.features = problem.features
        self.labels = problem.labels
        self.genes = torch.zeros(len(pulls), self.features.shape[1] + 1, device=self.features.device)
        self.active = torch.arange(len(pulls), device=self.features.device)
        self.pulls = pulls
        self.logits = problem.logits.repeat(len(pulls), 1)
        constant = torch.special.logit(self.labels.mean()).expand_as(self.labels)
        self.curvature = _curvature(loss, problem, constant)
        variances, self.axes = problem.axes
        self.inverse = 1 / (self.curvature * variances + pulls[:, None])
        self.value = loss(self.logits, self.labels).mean(1)
        self.gradient = self._gradient()
        self.memory: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=MEMORY)
        self.enough = TOLERANCE * self._promise().clamp(max=loss(constant, self.labels).mean())

    def step(self) -> bool:
        """Take one step for every active pull; False if none is left."""
        promise = self._promise()
        self._keep((promise > self.enough) & (promise > 1e-9))  # less drowns in the rounding of the mean loss
        if not len(self.active):
            return False
        direction = -self._preconditioned()
        change = torch.addmm(direction[:, -1:], direction[:, :-1], self.features.T)
        length = self._search_line(direction, change)[:, None]
        step = length * direction
        self.genes[self.active] += step
        self.logits += length * change
        before = self.gradient
        self.gradient = self._gradient()
        difference = self.gradient - before
        product = (step * difference).sum(1, keepdim=True)
        curved = product > 1e-12  # elsewhere the pair would spoil the approximation; the pull does without
        self.memory.append((step * curved, difference * curved, torch.where(curved, 1 / product, 0.0)))
        self._keep(length[:, 0] > 0)
        return True

    def _gradient(self) -> Tensor:
        logits = self.logits.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self.loss(logits, self.labels).sum() / logits.shape[1], logits)
        weight = torch.addmm(self.pulls[:, None] * self.genes[self.active, :-1], slope, self.features)
        return torch.cat([weight, slope.sum(1, keepdim=True)], dim=1)

    def _scaled(self, gradient: Tensor) -> Tensor:
        """What a Newton step would be if the curvature were a multiple of the covariance."""
        weight = gradient[:, :-1]
        along = weight @ self.axes
        scaled = (self.inverse * along) @ self.axes.T
        if self.axes.shape[1] < len(self.axes):  # what lies off the axes is held by the pull alone
            scaled += (weight - along @ self.axes.T) / self.pulls[:, None]
        return torch.cat([scaled, gradient[:, -1:] / self.curvature], dim=1)

    def _promise(self) -> Tensor:
        return (self.gradient * self._scaled(self.gradient)).sum(1)

    def _preconditioned(self) -> Tensor:
        """L-BFGS's two loops (Nocedal & Wright, algorithm 7.4), for all pulls."""
        direction = self.gradient.clone()
        shares = []
        for step, difference, inverse in reversed(self.memory):
            share = inverse * (step * direction).sum(1, keepdim=True)
            direction -= share * difference
            shares.append(share)
        direction = self._scaled(direction)
        for (step, difference, inverse), share in zip(self.memory, reversed(shares), strict=True):
            direction += step * (share - inverse * (difference * direction).sum(1, keepdim=True))
        return direction

    def _search_line(self, direction: Tensor, change: Tensor) -> Tensor:
        """The length of each pull's step: 1, or less where that does not lower the objective; 0 if nothing does."""
        slope = (self.gradient * direction).sum(1)
        weight, move = self.genes[self.active, :-1], direction[:, :-1]
        # The pull's own part of the objective is a parabola in the length.
        constant, linear, square = (
            self.pulls * part.sum(1) for part in (weight.square() / 2, weight * move, move.square() / 2)
        )
        length = torch.ones_like(slope)
        rest = torch.arange(len(length), device=length.device)
        for _ in range(HALVINGS):
            here = length[rest]
            value = self.loss(self.logits[rest] + here[:, None] * change[rest], self.labels).mean(1)
            value += constant[rest] + here * linear[rest] + here**2 * square[rest]
            # The last term forgives the rounding of a mean over many rows.
            fine = value <= self.value[rest] + SUFFICIENT * here * slope[rest] + 1e-7 * self.value[rest].abs()
            self.value[rest[fine]] = value[fine]
            rest = rest[~fine]
            if not len(rest):
                return length
            length[rest] /= 2
        length[rest] = 0
        return length

    def _keep(self, kept: Tensor) -> None:
        """Go on with some of the active pulls only."""
        if kept.all():
            return
        for name in ("active", "pulls", "enough", "logits", "value", "inverse", "gradient"):
            setattr(self, name, getattr(self, name)[kept])
        for number, pair in enumerate(self.memory):
            step, difference, inverse = pair
            self.memory[number] = step[kept], difference[kept], inverse[kept]


def _curvature(loss: Loss, problem: Standardised, constant: Tensor) -> float:
    """The mean second derivative of the loss by its logit, at the trained head or at a constant, whichever is more.

    A head that is sure, and wrong, has next to none of its own.
    """
    candidates = []
    for logits in (problem.logits, constant):
        slopes = []
        for shift in (-0.5, 0.5):
            moved = (logits + shift).detach().requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(loss(moved, problem.labels).mean(), moved)
            slopes.append(slope.sum())
        candidates.append(float(slopes[1] - slopes[0]))
    return max(*candidates, 1e-3)
