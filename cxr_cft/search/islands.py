"""Many small searches of one shape at once: PyGAD's loop over a population whose every individual holds them all.

PyGAD takes half a millisecond a generation whatever it breeds, and a thousand searches over ten genes would spend most
of their time there. Here an individual is a row of islands, one a search, whose genomes never mix: parents are chosen,
crossed and mutated for each island by its own fitness, all islands in the same few array operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pygad
from numpy.typing import ArrayLike, NDArray

from cxr_cft.search.breeding import MUTATION_PROBABILITY, STEP_DECADES, TOURNAMENT
from cxr_cft.search.genetic import silent_logger

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

FIRST_PARENT_SHARE = 0.5  # of the genes: with few of them, and starts worth keeping, both parents count (assumed)


def maximise_islands(
    fitness: Callable[[Singles], ArrayLike],
    start: ArrayLike,
    *,
    rng: np.random.Generator,
    population: int = 40,
    generations: int = 40,
    scale: float = 0.25,
) -> tuple[Singles, Floats]:
    """Search for shares of highest fitness on each of I islands.

    Genomes are G shares that are not negative and sum to 1. Tournament selection, uniform crossover, Gaussian mutation
    of whole genomes with a step size of their own, and one elite an island, which takes no step.

    Args:
        fitness: takes (P, I, G) float32 genomes and returns (P, I), finite, higher is better; of the genome alone.
        start: (S, I, G) shares to start from, S at most `population`; the rest of the first population are their
            mutations.
        rng: the only source of randomness.
        population: individuals in a generation, P.
        generations: how many are bred.
        scale: the largest standard deviation of a share's mutation.

    Returns:
        The best genome (I, G) and its fitness (I,); never worse than the best of the starting ones.

    Raises:
        ValueError: a shape does not fit, a starting share is not finite, there are more starting genomes than a
            population has, or there is nobody or nothing to breed.

    """
    begin = np.array(start, dtype=np.float32)
    if population < 2:
        raise ValueError(f"population must be at least 2, but it is {population}")
    if generations < 1:
        raise ValueError(f"generations must be at least 1, but they are {generations}")
    if begin.ndim != 3 or not begin.size or len(begin) > population or not np.isfinite(begin).all():
        raise ValueError(
            f"start must be (S, I, G) of finite numbers with S at most {population}, but its shape is {begin.shape}"
        )
    islands = _Islands(fitness, begin, rng, population, scale)
    pygad.GA(
        num_generations=generations,
        num_parents_mating=population,
        initial_population=np.arange(population)[:, None],
        gene_type=int,
        fitness_func=islands.evaluate,
        fitness_batch_size=population,
        parent_selection_type=islands.select,
        crossover_type=islands.cross,
        mutation_type=islands.mutate,
        keep_elitism=0,
        keep_parents=0,
        suppress_warnings=True,
        logger=silent_logger(),
    ).run()
    best = islands.fitness.argmax(axis=0)
    each = np.arange(begin.shape[1])
    return islands.genomes[best, each], islands.fitness[best, each]


class _Islands:
    """A population (P, I, G), and the operators on it in the signatures that PyGAD calls.

    What PyGAD itself breeds are the numbers of the individuals. Those below P are this generation's, the others their
    children's, so that it evaluates each generation once.
    """

    def __init__(
        self,
        fitness: Callable[[Singles], ArrayLike],
        start: Singles,
        rng: np.random.Generator,
        population: int,
        scale: float,
    ) -> None:
        self._fitness, self.rng, self.population, self.scale = fitness, rng, population, scale
        copies = np.resize(start, (population - len(start), *start.shape[1:]))
        self.genomes = np.concatenate([_shares(start), _shares(self._stepped(copies))])
        self.children = self.genomes
        self.each = np.arange(start.shape[1])
        self.fitness = self._evaluated(self.genomes)

    def select(self, _: Floats, number: int, engine: Any) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """All of them: each island chooses for itself, in `cross`."""
        return engine.population, np.arange(number)

    def cross(self, _: NDArray[np.int64], size: tuple[int, int], __: Any) -> NDArray[np.int64]:
        """Each gene from one of two parents, each the fittest of `TOURNAMENT` random ones of its island."""
        entrants = self.rng.integers(self.population, size=(TOURNAMENT, 2, size[0], len(self.each)))
        winner = self.fitness[entrants, self.each].argmax(axis=0)
        first, second = np.take_along_axis(entrants, winner[None], axis=0)[0]
        mother, father = self.genomes[first, self.each], self.genomes[second, self.each]
        from_first = self.rng.random(mother.shape, dtype=np.float32) < FIRST_PARENT_SHARE
        self.children = np.where(from_first, mother, father)
        return self.population + np.arange(size[0])[:, None]

    def mutate(self, offspring: NDArray[np.int64], _: Any) -> NDArray[np.int64]:
        """A step of some of the children; the first child is the elite, as it was."""
        chosen = self.rng.random(self.children.shape[:2]) < MUTATION_PROBABILITY
        self.children[chosen] = self._stepped(self.children[chosen])
        self.children = _shares(self.children)
        self.children[0] = self.genomes[self.fitness.argmax(axis=0), self.each]
        return offspring

    def evaluate(self, engine: Any, numbers: NDArray[np.int64], _: Any) -> Floats:
        """The mean fitness over islands (P,), for PyGAD's own books; the islands go by `fitness`."""
        if numbers[0, 0] >= self.population:
            self.genomes, self.fitness = self.children, self._evaluated(self.children)
            engine.population[:, 0] = np.arange(self.population)
        return np.asarray(self.fitness.mean(axis=1))

    def _evaluated(self, genomes: Singles) -> Floats:
        values = np.asarray(self._fitness(genomes), dtype=np.float64)
        if values.shape != genomes.shape[:2]:
            raise ValueError(f"fitness was given the shape {genomes.shape}, but returned {values.shape}")
        return values

    def _stepped(self, genomes: Singles) -> Singles:
        sizes = self.scale * 10 ** self.rng.uniform(*STEP_DECADES, size=(*genomes.shape[:-1], 1))
        steps = self.rng.standard_normal(genomes.shape, dtype=np.float32)
        return np.asarray(genomes + steps * sizes.astype(np.float32))


def _shares(genomes: Singles) -> Singles:
    """Genomes without negative genes, scaled to sum 1; one of nothing but zeros becomes equal shares."""
    positive = np.maximum(genomes, 0)
    total = positive.sum(axis=-1, keepdims=True)
    return np.where(total > 0, positive / np.where(total > 0, total, 1), np.float32(1 / genomes.shape[-1]))
