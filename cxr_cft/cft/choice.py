"""Which head a category gets: chosen on validation, with an estimate of the gain that the choice did not flatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from cxr_cft.metrics import Metric

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

FOLDS = 5  # of the cross-fit; fewer where the rarer class has less than two groups for each
REPEATS = 4  # partitions that the estimate is averaged over, so that it hangs less on one (assumed)
BLOCKS = 200
"""Groups of validation rows are left out in at most so many blocks for the jackknife; CheXpert's 200 validation
patients are left out one by one."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Validation rows that belong together (a patient's views), and the blocks that the jackknife leaves out."""

    codes: Codes
    """(N,): each row's group."""
    blocks: Codes
    """(N,): each row's block; a group is in one."""

    @classmethod
    def of(cls, groups: NDArray[np.generic], seed: int) -> Groups:
        """Number the groups (N,) and draw their blocks."""
        names, codes = np.unique(groups, return_inverse=True)
        blocks = np.random.default_rng([seed, 1]).permutation(len(names)) % BLOCKS
        return cls(codes, blocks[codes])


@dataclass(frozen=True, eq=False)
class Gain:
    """A difference and its jackknife: what is left of it without each block of validation."""

    value: float
    without: Floats
    """(B,); nan for a block in which the category has no known row."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """Lower and upper bound by Student's t over the blocks (Tukey's jackknife); nan where there is no estimate."""
        without = self.without[~np.isnan(self.without)]
        blocks = len(without)
        if blocks < 2 or not np.isfinite(self.value):
            return np.nan, np.nan
        variance = (blocks - 1) / blocks * np.square(without - without.mean()).sum()
        reach = student.ppf((1 + confidence) / 2, blocks - 1) * np.sqrt(variance)
        return float(self.value - reach), float(self.value + reach)


def mean_gain(gains: list[Gain]) -> Gain:
    """The mean over categories that share their validation rows, and so their blocks."""
    known = [gain for gain in gains if np.isfinite(gain.value)]
    if not known:
        return Gain(np.nan, np.zeros(0))
    without = [np.where(np.isnan(gain.without), gain.value, gain.without) for gain in known]
    nobody = np.isnan([gain.without for gain in known]).all(axis=0)
    mean = np.mean([gain.value for gain in known])
    return Gain(float(mean), np.where(nobody, np.nan, np.mean(without, axis=0)))


def cross_fitted_gain(
    metric: Metric, labels: Floats, scores: NDArray[np.float32], groups: Groups, blocks: int, rng: np.random.Generator
) -> Gain:
    """What choosing among score columns gains over the first one, on rows that did not choose.

    Validation is cut into folds of whole groups; each fold sees the column that is best on the others (the first, if
    none is strictly better) and counts the difference from the first column. The mean over the folds estimates the gain
    of choosing with a little less validation than there is.

    Args:
        metric: of (N,) labels and (N, K) scores.
        labels: (N,) of 1 and 0.
        scores: (N, K), the original first.
        groups: of the N rows.
        blocks: how many blocks there are among all rows, those without a row here included.
        rng: draws the partitions.

    Returns:
        nan where a class has fewer than four groups, two for each of two folds.

    """
    groups_of = [len(np.unique(groups.codes[labels == value])) for value in (1, 0)]
    # Of a fold with one group of a class, nothing is left without it: its jackknife would not know how unsure it is.
    folds = min(FOLDS, min(groups_of) // 2)
    if folds < 2:
        return Gain(np.nan, np.full(blocks, np.nan))
    values, without = [], []
    for _ in range(REPEATS):
        fold_of = _folds(labels, groups.codes, folds, rng)
        differences = np.full((folds, blocks + 1), np.nan)
        for fold in range(folds):
            held = fold_of == fold
            chosen = best_column(metric(labels[~held], scores[~held]))
            differences[fold] = _difference(
                metric, labels[held], scores[held][:, [0, chosen]], groups.blocks[held], blocks
            )
        # A fold of one class only (patients with views of both can make one) has nothing to tell.
        told = differences[~np.isnan(differences[:, 0])]
        if not len(told):
            return Gain(np.nan, np.full(blocks, np.nan))
        means = told.mean(axis=0)
        values.append(means[0])
        without.append(means[1:])
    present = np.isin(np.arange(blocks), groups.blocks)
    return Gain(float(np.mean(values)), np.where(present, np.mean(without, axis=0), np.nan))


def best_column(values: Floats) -> int:
    """The column of the highest value; the first of equals."""
    return int(np.argmax(np.where(np.isnan(values), -np.inf, values)))


def _difference(metric: Metric, labels: Floats, scores: NDArray[np.float32], of: Codes, blocks: int) -> Floats:
    """(1 + blocks,): second column minus first, of all rows and without each block."""
    present, codes = np.unique(of, return_inverse=True)
    weights = np.ones((len(labels), 1 + len(present)))
    weights[np.arange(len(labels)), 1 + codes] = 0
    found = metric(labels, scores, weights)
    difference = found[:, 1] - found[:, 0]
    # A block whose rows are all of one class leaves nothing to compare: it cannot speak for or against.
    difference = np.where(np.isnan(difference), difference[0], difference)
    result = np.full(1 + blocks, difference[0])
    result[1 + present] = difference[1:]
    return np.asarray(result)


def _folds(labels: Floats, codes: Codes, folds: int, rng: np.random.Generator) -> Codes:
    """Each row's fold: groups whole, those with a positive dealt out first, so that every fold has its share."""
    names, codes = np.unique(codes, return_inverse=True)
    positive = np.zeros(len(names), dtype=bool)
    positive[codes[labels == 1]] = True
    order = rng.permutation(len(names))
    order = np.concatenate([order[positive[order]], order[~positive[order]]])
    fold_of = np.empty(len(names), dtype=np.intp)
    fold_of[order] = np.arange(len(names)) % folds
    return np.asarray(fold_of[codes])
