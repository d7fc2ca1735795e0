"""A generation of the genetic search: whole-population operators against PyGAD's own.

50 solutions of 1,025 genes, the same cheap fitness for both, three seeds.
"""

import time

import numpy as np
import pygad

from cxr_cft.search import maximise
from tests.benchmarks.table import show, spread

GENES, POPULATION = 1025, 50


def ours(seed, generations=100):
    begin = time.perf_counter()
    maximise(
        lambda genomes: -np.square(genomes).sum(axis=1),
        np.ones(GENES),
        scale=0.1,
        rng=np.random.default_rng(seed),
        population=POPULATION,
        generations=generations,
        patience=generations,
    )
    return (time.perf_counter() - begin) / generations * 1000


def pygads(seed, generations=5):
    engine = pygad.GA(
        num_generations=generations,
        num_parents_mating=POPULATION,
        sol_per_pop=POPULATION,
        num_genes=GENES,
        fitness_func=lambda _, genomes, __: -np.square(genomes).sum(axis=1),
        fitness_batch_size=POPULATION,
        parent_selection_type="tournament",
        crossover_type="uniform",
        mutation_type="random",
        keep_elitism=1,
        random_seed=seed,
        suppress_warnings=True,
    )
    begin = time.perf_counter()
    engine.run()
    return (time.perf_counter() - begin) / generations * 1000


def main():
    seeds = range(3)
    mine, theirs = [ours(seed) for seed in seeds], [pygads(seed) for seed in seeds]
    ratio = [there / here for here, there in zip(mine, theirs, strict=True)]
    show(
        ["operators", "ms a generation, median (range)"],
        [["cxr-cft's", spread(mine)], ["PyGAD's own", spread(theirs)], ["ratio", spread(ratio, 0)]],
    )
