"""The ways to find weights on labelled studies: best single member, greedy selection, genetic algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_cft.metrics import population_auroc
from cxr_cft.search import maximise_islands

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]

BAGS = 20  # bootstrap resamples of the studies, whose weights are averaged (assumed; 10 did hardly worse)
BAG_STUDIES = 1000  # that a resample holds at most; with more studies their average still sees them all (assumed)
POPULATION = 40  # assumed
GENERATIONS = 40  # assumed
GREEDY_STEPS = 40  # so that a weight is a multiple of 1/40 at the finest (assumed)
CHANCE = 0.5  # the fitness where nothing can be scored


@dataclass(frozen=True, eq=False)
class Found:
    """Weights (M, C) by finder, each column summing to 1, and in which share of the resamples each member counted."""

    weights: dict[str, Floats]
    counted: Floats


def find_weights(
    z: Floats, labels: Floats, patients: Rows, rows: Rows, scored: Sequence[int], rng: np.random.Generator
) -> Found:
    """Weights that each finder finds on the studies `rows`.

    z: (M, S, C) on the common scale, nan where a member lacks a category. labels: (S, C). patients: (S,) numbers.
    `scored` are the categories over which one weight a member is searched; a weight a member and category is searched
    for every category that has both classes. The genetic algorithm's weights are the mean of those that it finds on
    `BAGS` bootstrap resamples of patients. A member counts in a resample where it has at least half an equal share.
    """
    members, _, categories = z.shape
    there = np.asarray(~np.isnan(z).any(axis=1))
    if members == 1:  # there is nothing to find
        return Found(dict.fromkeys(("ga", "ga-category", "greedy", "best"), there.astype(np.float64)), np.ones(1))
    values = np.ascontiguousarray(np.nan_to_num(z).transpose(2, 0, 1), dtype=np.float32)
    whole = _Sample(values, there, labels, rows)
    alone = np.eye(members, dtype=np.float32)
    best = alone[whole.mean(scored, alone).argmax()]
    greedy = _greedy(whole, scored, members)
    bags = [_Sample(values, there, labels, _resample(patients, rows, rng)) for _ in range(BAGS)]

    def shared_fitness(genomes: Singles) -> Floats:
        return np.stack([bag.mean(scored, genomes[:, b]) for b, bag in enumerate(bags)], axis=1)

    best_of_bag = np.stack([alone[bag.mean(scored, alone).argmax()] for bag in bags])
    equal = np.full((len(bags), members), 1 / members)
    start = np.stack([equal, best_of_bag, np.repeat(greedy[None], len(bags), axis=0)])
    shared, _ = maximise_islands(shared_fitness, start, rng=rng, population=POPULATION, generations=GENERATIONS)

    def own_fitness(genomes: Singles) -> Floats:
        islands = [(bag, c) for bag in bags for c in range(categories)]
        return np.stack([bag.category(c, genomes[:, i]) for i, (bag, c) in enumerate(islands)], axis=1)

    best_of_category = np.stack([alone[bag.category(c, alone).argmax()] for bag in bags for c in range(categories)])
    of_bag = np.repeat(shared, categories, axis=0)
    equal = np.full((len(of_bag), members), 1 / members)
    start = np.stack([of_bag, equal, best_of_category])
    own, _ = maximise_islands(own_fitness, start, rng=rng, population=POPULATION, generations=GENERATIONS)

    def spread(weights: NDArray[np.floating]) -> Floats:
        return shares(np.repeat(weights[:, None], categories, axis=1), there)

    return Found(
        {
            "ga": np.mean([spread(weights) for weights in shared], axis=0),
            "ga-category": np.mean([shares(part.T, there) for part in own.reshape(-1, categories, members)], axis=0),
            "greedy": spread(greedy),
            "best": spread(best),
        },
        np.asarray((shared >= 0.5 / members).mean(axis=0)),
    )


def shares(weights: NDArray[np.floating], there: Flags) -> Floats:
    """Weights (M, C) over the members that have a category, each column summing to 1; equal where those have none."""
    kept = np.where(there, weights, 0.0).astype(np.float64)
    total = kept.sum(axis=0)
    equal = there / np.maximum(there.sum(axis=0), 1)
    return np.where(total > 0, kept / np.where(total > 0, total, 1.0), equal)


class _Sample:
    """Studies, drawn with or without repetition, and the AUROC of blends on them.

    A member's values are 0 where it lacks a category: blended there are the others, as `shares` has it.
    """

    def __init__(self, values: Singles, there: Flags, labels: Floats, rows: Rows) -> None:
        self.there = there
        self.parts: list[tuple[Singles, Flags] | None] = []
        for c in range(labels.shape[1]):
            known = rows[~np.isnan(labels[rows, c])]
            positive = labels[known, c] == 1
            both = positive.any() and not positive.all()
            self.parts.append((values[c][:, known], positive) if both else None)

    def category(self, category: int, weights: Singles) -> Floats:
        """AUROC (K,) of a category under weights (K, M)."""
        part, there = self.parts[category], self.there[:, category]
        if part is None:
            return np.full(len(weights), CHANCE)
        if not there.all():
            weights = np.where((weights * there).any(axis=1, keepdims=True), weights, there).astype(np.float32)
        return population_auroc(weights @ part[0], part[1])

    def mean(self, categories: Sequence[int], weights: Singles) -> Floats:
        """Mean AUROC (K,) over those of the categories that have both classes here."""
        found = [self.category(c, weights) for c in categories if self.parts[c] is not None]
        return np.mean(found, axis=0) if found else np.full(len(weights), CHANCE)


def _resample(patients: Rows, rows: Rows, rng: np.random.Generator) -> Rows:
    """Studies of patients drawn with replacement, about as many as `rows`, but no more than about `BAG_STUDIES`."""
    order = rows[np.argsort(patients[rows], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(patients[order])) + 1)
    number = max(1, round(len(groups) * min(1.0, BAG_STUDIES / len(rows))))
    return np.concatenate([groups[g] for g in rng.integers(len(groups), size=number)])


def _greedy(sample: _Sample, scored: Sequence[int], members: int) -> Singles:
    """Greedy selection with replacement (Caruana et al., ICML 2004): the best of the blends on the way."""
    usable = [(c, part) for c, part in ((c, sample.parts[c]) for c in scored) if part is not None]
    sums = {c: np.zeros(part[0].shape[1], dtype=np.float32) for c, part in usable}
    picked = np.zeros(members, dtype=np.float32)
    best, weights = -1.0, np.full(members, 1 / members, dtype=np.float32)

    def added(c: int, values: Singles) -> Singles:
        """The blends (M, n) of what is picked and each member; of all members where none of those has the category."""
        there = sample.there[:, c]
        if there.all() or picked[there].any():
            return sums[c] + values
        return np.where(there[:, None], values, values.sum(axis=0))

    for _ in range(GREEDY_STEPS if usable else 0):
        fitness = np.mean([population_auroc(added(c, part[0]), part[1]) for c, part in usable], axis=0)
        winner = int(fitness.argmax())
        picked[winner] += 1
        for c, part in usable:
            sums[c] += part[0][winner]
        if fitness[winner] > best:
            best, weights = float(fitness[winner]), picked / picked.sum()
    return weights
