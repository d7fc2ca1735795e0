"""One category's head by genetic algorithm: the ranking metric itself is the fitness, no gradient needed.

A genome of all D weights leaves fifty individuals lost in a thousand directions, of which next to none matter. Here a
genome counts steps along a few directions: the first that the labels point to, and what the features' covariance makes
of them. That is the Krylov space in which conjugate gradients (and partial least squares) look for a linear model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr_cft.metrics import METRICS
from cxr_cft.metrics.binned import BINNED
from cxr_cft.search import SearchState, maximise

if TYPE_CHECKING:
    from cxr_cft.cft.options import Options
    from cxr_cft.cft.standard import Standardised

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

DIRECTIONS = 16
"""Measured on six planted categories of 4,000 to 30,000 known labels, 1,024 features: with 16, the chosen head's
held-out AUROC rose in five of them; 8 were 0.01 worse where labels were many, 32 no better, all 1,024 hardly moved."""

STEP = 0.03
"""The largest mutation of a gene, as a share of the standard deviation of the trained head's logits. 0.3 and 0.1 were
up to 0.01 worse where labels were few: they leap over the heads that validation would have chosen (measured)."""


BINNED_FROM = 8192  # rows; for fewer, sorting is as fast as histograms, and exact (measured)


class Memory(Protocol):
    """Where a search keeps its state, so that it can go on after a kill."""

    def load(self) -> Arrays | None:
        """What was kept last, None if nothing was."""
        ...

    def save(self, state: Callable[[], Arrays]) -> None:
        """Keep a state; it is made by a call, since not every generation's is kept."""
        ...


@dataclass(frozen=True, eq=False)
class _Space:
    """Genomes (K, R) as changes of the head.

    Each column of `basis` (D, R) moves the logits by a standard deviation of 1; `scores` (R + 1, N) are the features
    along them and, as one more direction, the trained logits; the first `positives` rows are those.
    """

    basis: Tensor
    scores: Tensor
    positives: int

    @classmethod
    def of(cls, problem: Standardised) -> _Space:
        """The space that a search for this problem moves in."""
        basis = _directions(problem)
        # Positives first, so that each class is a slice.
        order = torch.argsort(problem.labels, descending=True, stable=True)
        scores = torch.cat([(problem.features @ basis).T, problem.logits[None]])[:, order].contiguous()
        return cls(basis, scores, int(problem.labels.sum()))

    def logits(self, genomes: Floats) -> Tensor:
        """(K, N), the positives first."""
        shares = np.concatenate([genomes, np.ones((len(genomes), 1))], axis=1)
        return torch.from_numpy(shares).to(self.scores) @ self.scores

    def genes(self, genomes: Floats) -> Floats:
        """The problem's genes (K, D + 1), without the bias."""
        moves = torch.from_numpy(genomes).to(self.basis) @ self.basis.T
        return np.pad(moves.double().cpu().numpy(), ((0, 0), (0, 1)))

    def with_bias(self, genomes: Floats) -> Floats:
        """The same with the bias, on which no ranking depends: probabilities get the labels' mean."""
        genes = self.genes(genomes)
        genes[:, -1] = _bias(self.logits(genomes), self.positives / self.scores.shape[1]).double().cpu().numpy()
        return genes


def evolve(
    metric: str,
    problem: Standardised,
    options: Options,
    monitor: Callable[[Floats], float],
    rng: np.random.Generator,
    memory: Memory | None = None,
) -> Floats:
    """The trained head, then the best of every generation in which it changed, as genes (K, D + 1) of the problem.

    `metric` on the problem's own labels is the fitness, by histogram where rows are many. `monitor` says what
    validation thinks of genes (D + 1,); the search ends when it has not thought better of any for `options.patience`
    generations. With a `memory` a search that was killed goes on to the same result.
    """
    space = _Space.of(problem)
    trained = np.zeros((1, len(problem.weight) + 1))
    if not space.basis.shape[1]:  # no feature varies
        return trained

    rows = space.scores.shape[1]
    sorted_labels = (np.arange(rows) < space.positives).astype(np.float64)

    def fitness(genomes: Floats) -> Floats:
        logits = space.logits(genomes)
        if rows < BINNED_FROM:
            return np.asarray(METRICS[metric](sorted_labels, logits.cpu().numpy().T))
        return BINNED[metric](logits[:, : space.positives], logits[:, space.positives :]).value.cpu().numpy()

    leaders = _Leaders(space, monitor)
    state = leaders.restore(memory)
    maximise(
        fitness,
        np.zeros(space.basis.shape[1]),
        # A head of zeros must be able to move too.
        scale=STEP * max(float(problem.logits.std(correction=0)), 1e-3),
        rng=rng,
        population=options.population,
        generations=options.generations,
        patience=options.patience,
        monitor=leaders.see,
        resume=state,
        checkpoint=None if memory is None else lambda state: memory.save(lambda: leaders.arrays(state)),
    )
    found = leaders.genomes[1:]
    return np.concatenate([trained, space.with_bias(np.array(found))]) if found else trained


class _Leaders:
    """The genomes that led a generation, in order; the first is the start."""

    def __init__(self, space: _Space, monitor: Callable[[Floats], float]):
        self.space = space
        self.monitor = monitor
        self.genomes: list[Floats] = []

    def see(self, genome: Floats) -> float:
        self.genomes.append(genome.copy())
        return self.monitor(self.space.genes(genome[None])[0])

    def arrays(self, state: SearchState) -> Arrays:
        return {**state.arrays(), "leaders": np.array(self.genomes)}

    def restore(self, memory: Memory | None) -> SearchState | None:
        kept = None if memory is None else memory.load()
        if kept is None:
            return None
        self.genomes = list(kept["leaders"])
        return SearchState.from_arrays(kept)


def _directions(problem: Standardised) -> Tensor:
    """An orthonormal basis, in the features' covariance, of the Krylov space of the labels' residual: (D, R)."""
    shift = _bias(problem.logits[None], float(problem.labels.mean()))
    residual = problem.labels - torch.sigmoid(problem.logits + shift)
    variances, axes = problem.axes
    # Along the axes, each scaled to a variance of 1: there the covariance is diagonal and lengths are deviations.
    vector = variances.sqrt() * (axes.T @ (problem.features.T @ residual)) / len(residual)
    found: list[Tensor] = []
    for _ in range(min(DIRECTIONS, len(variances))):
        for _ in range(2):  # once leaves rounding errors behind, twice is enough (Kahan)
            for other in found:
                vector = vector - other * (other @ vector)
        length = vector.norm()
        if not length > 0:
            break
        found.append(vector / length)
        vector = variances * found[-1]
    if not found:  # the trained head leaves no residual: any direction is as good
        found = list(torch.eye(len(variances), device=variances.device)[-DIRECTIONS:])
    if not found:  # no feature varies
        return axes
    return axes @ (torch.stack(found, 1) / variances.sqrt()[:, None])


def _bias(logits: Tensor, rate: float) -> Tensor:
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
