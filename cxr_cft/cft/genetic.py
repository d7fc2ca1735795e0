"""One category's head by genetic algorithm: the ranking metric itself is the fitness, no gradient needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cxr_cft.cft.standard import Standardised
from cxr_cft.metrics import Metric
from cxr_cft.search import maximise

POPULATION = 50  # Chong et al.'s code
GENERATIONS = 200  # assumed: a compromise with time; 5,000 of Chong et al.'s code end higher (README's benchmark)
PATIENCE = 30  # generations without a better validation score (assumed)
STEP = 0.1
"""The largest mutation, as a share of what the trained head's own genes measure: a step that is too small for a
strong head would break a weak one (assumed)."""


def search_head(
    metric: Metric,
    problem: Standardised,
    labels: NDArray[np.float64],
    monitor: Callable[[NDArray[np.float64]], float],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """The genes (D + 1,) that `monitor` likes best of those found by maximising the metric on `labels` (N,).

    The bias is part of the genome although no ranking metric depends on it: a tuned head is a whole head.
    """
    trained = problem.weight * np.where(np.isfinite(problem.spread), problem.spread, 0.0)
    step = STEP * max(float(np.sqrt(np.mean(trained**2))), 1e-3)  # a head of zeros must be able to move too
    columns = problem.features.T

    def fitness(genomes: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = genomes[:, :-1].astype(np.float32) @ columns
        return np.asarray(metric(labels, (moved + problem.logits).T))

    start = np.zeros(len(trained) + 1)
    found = maximise(
        fitness,
        start,
        scale=step,
        rng=rng,
        population=POPULATION,
        generations=GENERATIONS,
        patience=PATIENCE,
        monitor=monitor,
    )
    return found.genome
