"""How fast weights are searched: against PyGAD with scikit-learn per solution, at the largest size, and in what memory.

A blend's evaluation is its mean AUROC over 5 categories on 250 studies; both ways search one weight a member for 10
members, in one process with one thread, three seeds. The obvious way is PyGAD with its own operators and one
`roc_auc_score` a category and solution.
"""

import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pygad
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from cxr_cft.ensemble import finders, search_weights
from tests.benchmarks.made_members import draw, member, names, problem
from tests.benchmarks.table import show, spread

SEEDS = range(3)
SIZES = (30, 100, 300)  # members of the largest problem
CATEGORIES, STUDIES = 14, 5000


def few(seed):
    """10 members on one scale, 250 studies, 5 categories."""
    labels, logits = draw("a", 250, np.random.default_rng(seed))
    given = problem(1 / (1 + np.exp(-logits)), labels, seed)
    everyone = np.arange(250)
    return given.rescaled("max", "zlogit", everyone)[0], labels, everyone


def ours(seed):
    """Evaluations a second of the whole search for weights, greedy selection and resampling included."""
    z, labels, everyone = few(seed)
    begin = time.perf_counter()
    with threadpool_limits(1):
        finders.find_weights(z, labels, everyone, everyone, range(5), np.random.default_rng(seed))
    searches = 2 * (finders.GENERATIONS + 1) * finders.POPULATION * finders.BAGS  # per member, and per category too
    return searches / (time.perf_counter() - begin)


def obvious(seed, generations=10):
    """The same of PyGAD and scikit-learn; it evaluates a population of the same size once a generation."""
    z, labels, _ = few(seed)
    count = 0

    def fitness(_, genome, __):
        nonlocal count
        count += 1
        blend = np.tensordot(genome, z, 1)
        return np.mean([roc_auc_score(labels[:, c], blend[:, c]) for c in range(5)])

    engine = pygad.GA(
        num_generations=generations,
        num_parents_mating=20,
        sol_per_pop=finders.POPULATION,
        num_genes=len(z),
        init_range_low=0.0,
        init_range_high=1.0,
        fitness_func=fitness,
        random_seed=seed,
        suppress_warnings=True,
    )
    begin = time.perf_counter()
    with threadpool_limits(1):
        engine.run()
    return count / (time.perf_counter() - begin)


def largest(members):
    """Seconds of a whole search with its nested estimate, and the process's peak memory in GiB."""
    rng = np.random.default_rng(members)
    labels = (rng.random((STUDIES, CATEGORIES)) < 0.15).astype(np.float64)
    studies, categories = names(STUDIES), [f"finding {c}" for c in range(CATEGORIES)]
    made = []
    for m in range(members):
        logits = labels * rng.uniform(0.3, 1.5, CATEGORIES) + rng.standard_normal(labels.shape) - 1
        made.append(member(f"m{m}", 1 / (1 + np.exp(-logits)), studies, categories))
    given = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    begin = time.perf_counter()
    search_weights(made, studies, labels, categories)
    return time.perf_counter() - begin, given, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    mine, theirs = [ours(seed) for seed in SEEDS], [obvious(seed) for seed in SEEDS]
    ratio = [here / there for here, there in zip(mine, theirs, strict=True)]
    show(
        ["10 members, 5 categories, 250 studies", "evaluations a second, median (range)"],
        [
            ["cxr-cft's search", spread(mine, 0)],
            ["PyGAD and scikit-learn", spread(theirs, 0)],
            ["ratio", spread(ratio, 0)],
        ],
    )
    print()
    rows = []
    for size in SIZES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # each size's own peak of memory
            seconds, given, peak = pool.submit(largest, size).result()
        rows.append([size, f"{seconds:.0f}", f"{given:.2f}", f"{peak:.2f}"])
    show([f"members, {CATEGORIES} categories, {STUDIES:,} studies", "seconds", "GiB before", "GiB at most"], rows)
