"""Maximise a function without gradients: PyGAD's genetic algorithm with operators over the whole population."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pygad
from numpy.typing import ArrayLike, NDArray

from cxr_cft.search.breeding import Breeding
from cxr_cft.search.state import SearchState

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SearchResult:
    """What a search found."""

    genome: Floats
    """(G,): the best genome, a starting genome if none did better."""
    fitness: float
    """Its fitness."""
    generations: int
    """How many generations were bred."""
    history: tuple[float, ...]
    """The best fitness of the starting genomes, then of each generation."""


def maximise(
    fitness: Callable[[Floats], ArrayLike],
    start: ArrayLike,
    *,
    scale: ArrayLike,
    rng: np.random.Generator,
    population: int = 50,
    generations: int = 200,
    patience: int = 50,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    project: Callable[[Floats], Floats] | None = None,
    resume: SearchState | None = None,
    checkpoint: Callable[[SearchState], None] | None = None,
) -> SearchResult:
    """Search for the genome of highest fitness.

    Tournament selection, uniform crossover, Gaussian mutation of whole individuals with a step size of their own, and
    one elite. The fitness of the elite and of other copies is remembered, so that `fitness` has to be a function of the
    genome alone.

    Resumed from the state after any generation, with the same arguments otherwise, a search gives the same bytes as one
    that was never interrupted; with more `generations` or `patience`, those of one that had them from the beginning.

    Args:
        fitness: takes (P, G) genomes, P from call to call at most `population`, and returns (P,), higher is better;
            nan is treated as worst.
        start: (G,) or (S, G) genomes to start from, S at most `population`; the rest of the first population are their
            mutations.
        scale: (G,) or a number: the largest standard deviation of a gene's mutation, in the gene's own units.
        rng: the only source of randomness.
        population: individuals in a generation.
        generations: how many are bred at most, those before a resumption included.
        patience: stop after so many generations without a better fitness.
        lower: (G,) or a number that no gene falls below.
        upper: (G,) or a number that no gene exceeds.
        project: takes (P, G) genomes to (P, G) admissible ones, after the bounds were applied; it has to leave
            admissible genomes as they are. Starting genomes are projected too.
        resume: the state to go on from, instead of from `start`. `rng` is set to where the state's generator was. A
            search that had ended returns its result at once.
        checkpoint: is given the state after every generation. Keeping one costs nothing: no array of it is changed.

    Returns:
        The genome that did best. The starting genomes compete as well, so that it is never worse than the best of
        them, and the earliest of equals wins.

    Raises:
        ValueError: a shape does not fit, a number is out of its range, `fitness` or `project` returns another shape
            than it was given, or the state is of another population, another number of genes or another kind of random
            generator.

    """
    _check_counts(population, generations, patience)
    breeding = Breeding(np.array(start, dtype=np.float64, ndmin=2), scale, lower, upper, project, rng)
    if len(breeding.start) > population:
        raise ValueError(f"there are {len(breeding.start)} starting genomes for a population of {population}")
    if resume is not None:
        _check_state(resume, (population, breeding.start.shape[1]), rng)
    search = _Search(breeding, fitness, population, resume)
    search.run(generations, patience, checkpoint)
    state = search.state
    return SearchResult(state.genome.copy(), state.history[-1], state.generations, state.history)


class _Search:
    """A search under way: the state it is in, and how PyGAD takes it from one generation to the next."""

    def __init__(
        self,
        breeding: Breeding,
        fitness: Callable[[Floats], ArrayLike],
        population: int,
        resume: SearchState | None,
    ) -> None:
        self.breeding, self.fitness, self.population = breeding, fitness, population
        if resume is None:
            self.state = self._begin()
        else:
            self.state, breeding.genomes, breeding.rng.bit_generator.state = resume, resume.population, resume.generator

    def run(self, generations: int, patience: int, checkpoint: Callable[[SearchState], None] | None) -> None:
        """Go on until so many generations were bred in all, or the last `patience` of them were no better."""

        def watch(engine: Any) -> Literal["stop"] | None:
            self.breeding.succeed(engine.population[:, 0])
            engine.population[:, 0] = np.arange(self.population)
            self.state = self._next(np.array(engine.last_generation_fitness, dtype=np.float64))
            if checkpoint is not None:
                checkpoint(self.state)
            return "stop" if self.state.waited >= patience else None

        if self.state.generations >= generations or self.state.waited >= patience:
            return
        pygad.GA(
            num_generations=generations - self.state.generations,
            num_parents_mating=self.population,
            initial_population=np.arange(self.population)[:, None],
            gene_type=int,
            fitness_func=self._evaluate_numbers,
            fitness_batch_size=self.population,
            parent_selection_type=self.breeding.select,
            crossover_type=self.breeding.cross,
            mutation_type=self.breeding.mutate,
            keep_elitism=1,
            on_generation=watch,
            suppress_warnings=True,
            logger=silent_logger(),
        ).run()
        # PyGAD selects parents once more after the last generation. Whoever draws from the generator next should find
        # it as the last state has it, resumed or not.
        self.breeding.rng.bit_generator.state = self.state.generator

    def _begin(self) -> SearchState:
        """The state before the first generation. Only the starting genomes compete in it, not their mutations."""
        self.breeding.populate(self.population)
        fitness = self._evaluate(self.breeding.genomes.copy())
        best = int(np.argmax(fitness[: len(self.breeding.start)]))
        return self._state(fitness, self.breeding.start[best].copy(), (float(fitness[best]),))

    def _next(self, fitness: Floats) -> SearchState:
        """The state after another generation, which is the population now, of this fitness (P,)."""
        index = int(np.argmax(fitness))
        best = float(fitness[index])
        better = best > self.state.history[-1]
        genome = self.breeding.genomes[index].copy() if better else self.state.genome
        return self._state(fitness, genome, (*self.state.history, best))

    def _state(self, fitness: Floats, genome: Floats, history: tuple[float, ...]) -> SearchState:
        breeding = self.breeding
        return SearchState(breeding.genomes, fitness, breeding.rng.bit_generator.state, genome, history)

    def _evaluate_numbers(self, _: Any, numbers: NDArray[np.int64], __: Any) -> Floats:
        known = numbers[:, 0] < self.population
        values = np.empty(len(numbers))
        values[known] = self.state.fitness[numbers[known, 0]]
        if not known.all():
            values[~known] = self._evaluate(self.breeding.children[numbers[~known, 0] - self.population])
        return values

    def _evaluate(self, genomes: Floats) -> Floats:
        values = np.asarray(self.fitness(genomes), dtype=np.float64)
        if values.shape != (len(genomes),):
            raise ValueError(f"fitness was given {len(genomes)} genomes, but returned the shape {values.shape}")
        return np.where(np.isnan(values), -np.inf, values)


def _check_counts(population: int, generations: int, patience: int) -> None:
    if population < 2:
        raise ValueError(f"population must be at least 2, but it is {population}")
    if generations < 1 or patience < 1:
        raise ValueError(f"generations and patience must be at least 1, but they are {generations} and {patience}")


def _check_state(state: SearchState, shape: tuple[int, int], rng: np.random.Generator) -> None:
    if state.population.shape != shape:
        raise ValueError(
            f"the state is of a population of the shape {state.population.shape}, but this search's is {shape}"
        )
    drawn, draws = state.generator["bit_generator"], type(rng.bit_generator).__name__
    if drawn != draws:
        raise ValueError(f"the state is of a {drawn} random generator, but rng is a {draws}")


def silent_logger() -> logging.Logger:
    """PyGAD logs every exception to the terminal before it raises it; whoever called catches or shows it."""
    logger = logging.Logger("cxr_cft.search")
    logger.disabled = True
    return logger
