"""The operators of the genetic algorithm, in the signatures that PyGAD calls, each over the whole population at once.

PyGAD breeds numbers instead of genomes. It copies all individuals several times a generation and compares them as
tuples of Python numbers to find those whose fitness it knows, which for a thousand genes would take longer than all
else. Numbers below P stand for the P genomes of this generation, those from P on for their children; a child that is
a mere copy keeps its parent's number, so that PyGAD remembers its fitness as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

# Paper (the published code of Category-wise Fine-Tuning, arXiv 2401.16991): a gene comes from the first parent with
# this probability, and an individual is mutated with that one.
FIRST_PARENT_SHARE = 0.2
MUTATION_PROBABILITY = 0.5

# Assumed: PyGAD's own default. Roulette, as published, picks the best AUROC of a population hardly more often than the
# worst (measured 1.002 to 1), because it goes by the value and not by the order.
TOURNAMENT = 3

# Measured: an individual's mutation is `scale` times 10 to a uniform power in this range. Far from the optimum large
# steps pay, near it small ones, and where a search stands is not known beforehand (the idea is that of the breeder
# genetic algorithm, Mühlenbein & Schlierkamp-Voosen 1993). On a made head of 129 genes, 150 generations, two seeds, the
# best held-out AUROC for a scale of 1 and of 0.1 standard deviations of the weights was 0.872 and 0.870 in this way,
# 0.841 and 0.872 with one size for all, from 0.825 at the start: a misjudged scale costs little.
STEP_DECADES = (-2.0, 0.0)


class Breeding:
    """A population (P, G) and the operators on it.

    Raises ValueError if `start`, `scale` or a bound has another shape or range than `maximise` says.
    """

    def __init__(
        self,
        start: Floats,
        scale: ArrayLike,
        lower: ArrayLike | None,
        upper: ArrayLike | None,
        project: Callable[[Floats], Floats] | None,
        rng: np.random.Generator,
    ) -> None:
        if start.ndim != 2 or not start.size or not np.isfinite(start).all():
            raise ValueError(f"start must be (G,) or (S, G) finite numbers, but its shape is {start.shape}")
        genes = start.shape[1]
        self.scale = _per_gene("scale", scale, genes)
        if not (np.isfinite(self.scale).all() and (self.scale >= 0).all() and (self.scale > 0).any()):
            raise ValueError("scale must be finite, not negative, and above 0 for at least one gene")
        self.lower = _per_gene("lower", -np.inf if lower is None else lower, genes)
        self.upper = _per_gene("upper", np.inf if upper is None else upper, genes)
        if not (self.lower <= self.upper).all():
            raise ValueError("lower must not exceed upper")
        self.bounded = lower is not None or upper is not None
        self.project = project
        self.rng = rng
        self.start = self._admissible(start)
        self.genomes = self.start
        self.children = self.start[:0]

    def populate(self, size: int) -> None:
        """Begin with the starting genomes, and mutations of them in turn."""
        copies = np.resize(self.start, (size - len(self.start), self.start.shape[1]))
        self.genomes = np.concatenate([self.start, self._admissible(self._stepped(copies))])

    def select(self, fitness: Floats, number: int, engine: Any) -> tuple[Numbers, NDArray[np.intp]]:
        """The fittest of `TOURNAMENT` random individuals, as often as a parent is needed."""
        entrants = self.rng.integers(len(fitness), size=(number, TOURNAMENT))
        winners = entrants[np.arange(number), np.asarray(fitness)[entrants].argmax(axis=1)]
        return engine.population[winners], winners

    def cross(self, parents: Numbers, size: tuple[int, int], _: Any) -> Numbers:
        """Each gene from one of two parents; the parents come in random order, so that neighbours may mate."""
        first, second = parents[: size[0], 0], parents[1 : size[0] + 1, 0]
        from_first = self.rng.random((len(first), self.genomes.shape[1]), dtype=np.float32) < FIRST_PARENT_SHARE
        # As exact as np.where, because genes are finite, and several times faster: no processor foresees the choices.
        self.children = self.genomes[first] * from_first + self.genomes[second] * ~from_first
        like_second = (self.children == self.genomes[second]).all(axis=1)
        like_first = (self.children == self.genomes[first]).all(axis=1)
        return np.where(like_second, second, np.where(like_first, first, self._numbers()))[:, None]

    def mutate(self, offspring: Numbers, _: Any) -> Numbers:
        """A Gaussian step of some of the offspring, then bounds and projection of all."""
        chosen = self.rng.random(len(offspring)) < MUTATION_PROBABILITY
        self.children[chosen] = self._stepped(self.children[chosen])
        self.children = self._admissible(self.children)
        return np.where(chosen, self._numbers(), offspring[:, 0])[:, None]

    def succeed(self, numbers: Numbers) -> None:
        """Let the individuals of these numbers (P,) be the population, numbered anew from 0."""
        self.genomes = np.concatenate([self.genomes, self.children])[numbers]

    def _numbers(self) -> Numbers:
        """The children's own numbers, those of no individual of the population."""
        return len(self.genomes) + np.arange(len(self.children))

    def _stepped(self, genomes: Floats) -> Floats:
        sizes = 10 ** self.rng.uniform(*STEP_DECADES, size=(len(genomes), 1))
        return genomes + self.rng.standard_normal(genomes.shape) * (sizes * self.scale)

    def _admissible(self, genomes: Floats) -> Floats:
        if self.bounded:
            genomes = np.clip(genomes, self.lower, self.upper)
        if self.project is None:
            return genomes
        projected = np.array(self.project(genomes), dtype=np.float64)
        if projected.shape != genomes.shape:
            raise ValueError(f"project was given the shape {genomes.shape}, but returned {projected.shape}")
        return projected


def _per_gene(name: str, values: ArrayLike, genes: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in ((), (genes,)):
        raise ValueError(f"{name} must be a number or ({genes},), but its shape is {array.shape}")
    return np.broadcast_to(array, (genes,))
