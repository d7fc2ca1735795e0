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
from cxr_cft.search.state import Generation, SearchState

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SearchResult:
    """What a search found."""

    genome: Floats
    """(G,): the best genome by the monitor, by fitness without one; a starting genome if none did better."""
    fitness: float
    """Its fitness."""
    monitored: float | None
    """What the monitor said of it; None without a monitor."""
    generations: int
    """How many generations were bred."""
    history: tuple[Generation, ...]
    """The best of the starting genomes, then the best of each generation."""


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
    monitor: Callable[[Floats], float] | None = None,
    resume: SearchState | None = None,
    checkpoint: Callable[[SearchState], None] | None = None,
) -> SearchResult:
    """Search for the genome of highest fitness, and return the one that the monitor likes best.

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
        patience: stop after so many generations without an improvement of the monitored score, else of the fitness.
        lower: (G,) or a number that no gene falls below.
        upper: (G,) or a number that no gene exceeds.
        project: takes (P, G) genomes to (P, G) admissible ones, after the bounds were applied; it has to leave
            admissible genomes as they are. Starting genomes are projected too.
        monitor: takes a genome (G,) and gives a score on other data, higher is better, nan treated as worst. Asked
            about every starting genome and the best of each generation, it decides which genome is returned.
        resume: the state to go on from, instead of from `start`. `rng` is set to where the state's generator was. A
            search that had ended returns its result at once.
        checkpoint: is given the state after every generation. Keeping one costs nothing: no array of it is changed.

    Returns:
        The genome that did best by the monitor, or by fitness without one. The starting genomes compete as well, so
        that it is never worse than the best of them, and the earliest of equals wins.

    Raises:
        ValueError: a shape does not fit, a number is out of its range, `fitness` or `project` returns another shape
            than it was given, or the state is of another population, another number of genes, another kind of random
            generator, or of a search with a monitor where there is none now, or the reverse.

    """
    _check_counts(population, generations, patience)
    breeding = Breeding(np.array(start, dtype=np.float64, ndmin=2), scale, lower, upper, project, rng)
    if len(breeding.start) > population:
        raise ValueError(f"there are {len(breeding.start)} starting genomes for a population of {population}")

    def evaluate(genomes: Floats) -> Floats:
        values = np.asarray(fitness(genomes), dtype=np.float64)
        if values.shape != (len(genomes),):
            raise ValueError(f"fitness was given {len(genomes)} genomes, but returned the shape {values.shape}")
        return np.where(np.isnan(values), -np.inf, values)

    judge = _Judge(monitor)
    if resume is None:
        breeding.populate(population)
        state = judge.begin(breeding, evaluate(breeding.genomes.copy()))
    else:
        _check_state(resume, (population, breeding.start.shape[1]), monitor, rng)
        state, breeding.genomes, rng.bit_generator.state = resume, resume.population, resume.generator

    def evaluate_numbers(_: Any, numbers: NDArray[np.int64], __: Any) -> Floats:
        known = numbers[:, 0] < population
        values = np.empty(len(numbers))
        values[known] = state.fitness[numbers[known, 0]]
        if not known.all():
            values[~known] = evaluate(breeding.children[numbers[~known, 0] - population])
        return values

    def watch(engine: Any) -> Literal["stop"] | None:
        nonlocal state
        breeding.succeed(engine.population[:, 0])
        engine.population[:, 0] = np.arange(population)
        state = judge.go_on(state, breeding, np.array(engine.last_generation_fitness, dtype=np.float64))
        if checkpoint is not None:
            checkpoint(state)
        return "stop" if state.waited >= patience else None

    if state.generations < generations and state.waited < patience:
        pygad.GA(
            num_generations=generations - state.generations,
            num_parents_mating=population,
            initial_population=np.arange(population)[:, None],
            gene_type=int,
            fitness_func=evaluate_numbers,
            fitness_batch_size=population,
            parent_selection_type=breeding.select,
            crossover_type=breeding.cross,
            mutation_type=breeding.mutate,
            keep_elitism=1,
            on_generation=watch,
            suppress_warnings=True,
            logger=_silent_logger(),
        ).run()
        # PyGAD selects parents once more after the last generation. Whoever draws from the generator next should find
        # it as the last state has it, resumed or not.
        rng.bit_generator.state = state.generator
    return SearchResult(state.genome.copy(), *state.best, state.generations, state.history)


class _Judge:
    """Follows a search: the best genome by the monitor, by fitness without one, and how long it has stood."""

    def __init__(self, monitor: Callable[[Floats], float] | None) -> None:
        self.monitor = monitor

    def begin(self, breeding: Breeding, fitness: Floats) -> SearchState:
        """The state before the first generation, `fitness` (P,) being that of the first population."""
        start, of_start = breeding.start, fitness[: len(breeding.start)]
        monitored = [self._ask(genome) for genome in start]
        chosen = int(np.argmax(of_start if self.monitor is None else np.array(monitored, dtype=np.float64)))
        leader = int(np.argmax(of_start))
        return SearchState(
            population=breeding.genomes,
            fitness=fitness,
            generator=breeding.rng.bit_generator.state,
            genome=start[chosen].copy(),
            best=Generation(float(of_start[chosen]), monitored[chosen]),
            leader=start[leader].copy(),
            waited=0,
            history=(Generation(float(of_start[leader]), monitored[leader]),),
        )

    def go_on(self, state: SearchState, breeding: Breeding, fitness: Floats) -> SearchState:
        """The state after another generation, which is the population now, of this fitness (P,)."""
        index = int(np.argmax(fitness))
        leader = breeding.genomes[index].copy()
        # An elite that nobody has beaten was asked about already.
        known = np.array_equal(leader, state.leader)
        generation = Generation(float(fitness[index]), state.history[-1].monitored if known else self._ask(leader))
        better = _score(generation) > _score(state.best)
        return SearchState(
            population=breeding.genomes,
            fitness=fitness,
            generator=breeding.rng.bit_generator.state,
            genome=leader if better else state.genome,
            best=generation if better else state.best,
            leader=leader,
            waited=0 if better else state.waited + 1,
            history=(*state.history, generation),
        )

    def _ask(self, genome: Floats) -> float | None:
        if self.monitor is None:
            return None
        score = float(self.monitor(genome.copy()))
        return -np.inf if np.isnan(score) else score


def _score(generation: Generation) -> float:
    return generation.fitness if generation.monitored is None else generation.monitored


def _check_counts(population: int, generations: int, patience: int) -> None:
    if population < 2:
        raise ValueError(f"population must be at least 2, but it is {population}")
    if generations < 1 or patience < 1:
        raise ValueError(f"generations and patience must be at least 1, but they are {generations} and {patience}")


def _check_state(
    state: SearchState, shape: tuple[int, int], monitor: Callable[[Floats], float] | None, rng: np.random.Generator
) -> None:
    if state.population.shape != shape:
        raise ValueError(
            f"the state is of a population of the shape {state.population.shape}, but this search's is {shape}"
        )
    if (state.best.monitored is None) != (monitor is None):
        raise ValueError("the state and this search must both have a monitor or both have none")
    drawn, draws = state.generator["bit_generator"], type(rng.bit_generator).__name__
    if drawn != draws:
        raise ValueError(f"the state is of a {drawn} random generator, but rng is a {draws}")


def _silent_logger() -> logging.Logger:
    """PyGAD logs every exception to the terminal before it raises it; whoever called catches or shows it."""
    logger = logging.Logger("cxr_cft.search")
    logger.disabled = True
    return logger
