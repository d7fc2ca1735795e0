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

from cxr_cft.cft.standard import TOGETHER, Standardised, settled_bias
from cxr_cft.metrics import METRICS
from cxr_cft.metrics.binned import BINNED
from cxr_cft.search import SearchState, maximise

if TYPE_CHECKING:
    from cxr_cft.cft.options import Options

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

DIRECTIONS = 16
"""Measured on six planted categories of 4,000 to 30,000 known labels, 1,024 features: with 16, the chosen head's
held-out AUROC rose in five of them; 8 were 0.01 worse where labels were many, 32 no better, all 1,024 hardly moved."""

STEP = 0.03
"""The largest mutation of a gene, as a share of the standard deviation of the trained head's logits. 0.3 and 0.1 were
up to 0.01 worse where labels were few: they leap over the heads that validation would have chosen (measured)."""


BINNED_FROM = 8192  # rows; for fewer, sorting is as fast as histograms, and exact (measured)
BLURRED = 1e-3
"""An error bound above this, and a genome is scored exactly: normal scores have 2.5e-4 (AUROC) and 6e-4 (average
precision), one far outlier that squeezes the others into a few bins 0.25 (measured)."""


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
        """The problem's genes (K, D + 1), with the bias that gives probabilities the labels' mean."""
        found = np.zeros((len(genomes), len(self.basis) + 1))
        for start in range(0, len(genomes), TOGETHER):
            some = slice(start, start + TOGETHER)
            moves = torch.from_numpy(genomes[some]).to(self.basis) @ self.basis.T
            bias = settled_bias(self.logits(genomes[some]), self.positives / self.scores.shape[1])
            found[some, :-1], found[some, -1] = moves.double().cpu().numpy(), bias.double().cpu().numpy()
        return found


def evolve(
    metric: str,
    problem: Standardised,
    options: Options,
    rng: np.random.Generator,
    memory: Memory | None = None,
) -> Floats:
    """The best individual of every generation in which it changed, as genes (K, D + 1) of the problem.

    `metric` on the problem's own labels is the fitness, by histogram where rows are many; the search ends when that has
    not risen for `options.patience` generations. Validation stops it early by choosing among the individuals, and has
    no say in which there are: what the choice gains can then be estimated without this search. With a `memory` a search
    that was killed goes on to the same result.
    """
    space = _Space.of(problem)
    if not space.basis.shape[1]:  # no feature varies
        return np.zeros((0, len(problem.weight) + 1))
    rows = space.scores.shape[1]
    sorted_labels = (np.arange(rows) < space.positives).astype(np.float64)

    def exact(logits: Tensor) -> Floats:
        return np.asarray(METRICS[metric](sorted_labels, logits.cpu().numpy().T))

    def fitness(genomes: Floats) -> Floats:
        logits = space.logits(genomes)
        if rows < BINNED_FROM:
            return exact(logits)
        binned = BINNED[metric](logits[:, : space.positives], logits[:, space.positives :])
        values = binned.value.cpu().numpy()
        blurred = binned.error > BLURRED
        if blurred.any():
            values[blurred.cpu().numpy()] = exact(logits[blurred])
        return values

    leaders = _Leaders(space.basis.shape[1], memory)
    maximise(
        fitness,
        np.zeros(space.basis.shape[1]),
        # A head of zeros must be able to move too.
        scale=STEP * max(float(problem.logits.std(correction=0)), 1e-3),
        rng=rng,
        population=options.population,
        generations=options.generations,
        patience=options.patience,
        resume=leaders.restored(),
        checkpoint=leaders.see,
    )
    return space.genes(np.array(leaders.genomes[1:]).reshape(-1, space.basis.shape[1]))


class _Leaders:
    """The genomes that led a generation, in order; the first is the start."""

    def __init__(self, length: int, memory: Memory | None):
        self.genomes = [np.zeros(length)]
        self.memory = memory

    def see(self, state: SearchState) -> None:
        if not np.array_equal(state.leader, self.genomes[-1]):
            self.genomes.append(state.leader.copy())
        if self.memory is not None:
            self.memory.save(lambda: {**state.arrays(), "leaders": np.array(self.genomes)})

    def restored(self) -> SearchState | None:
        kept = None if self.memory is None else self.memory.load()
        if kept is None:
            return None
        self.genomes = list(kept["leaders"])
        return SearchState.from_arrays(kept)


def _directions(problem: Standardised) -> Tensor:
    """An orthonormal basis, in the features' covariance, of the Krylov space of the labels' residual: (D, R)."""
    shift = settled_bias(problem.logits[None], float(problem.labels.mean()))
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
