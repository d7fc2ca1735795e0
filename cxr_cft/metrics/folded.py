"""AUROC over held-out folds that different models have scored: pairs within a fold, pooled over folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from cxr_cft.metrics.ranking import auroc

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FoldedAuroc:
    """Mean AUROC over categories of K models, and how much each row moves it."""

    value: Floats
    """(K,): nan where no fold holds both classes of any category."""
    influence: Floats
    """(K, N): the infinitesimal jackknife's value of every row; they sum to 0."""

    def error(self, model: int, groups: NDArray[np.intp], other: int | None = None) -> float:
        """The standard error of a model's value, or of its difference from another's.

        Rows of one group move together; `groups` (N,) are numbers from 0. It is that of DeLong, DeLong & Clarke-Pearson
        (Biometrics 1988) but for n in place of n − 1, with groups as in Obuchowski (Biometrics 1997).
        """
        moved = self.influence[model] - (0.0 if other is None else self.influence[other])
        return float(np.sqrt(np.square(np.bincount(groups, weights=moved)).sum()))


def folded_auroc(labels: ArrayLike, scores: ArrayLike, folds: ArrayLike) -> FoldedAuroc:
    """The mean over categories of the AUROC of the pairs that lie in one fold.

    Each fold's scores may come from another model on another scale: no score of one fold is compared with one of
    another. A category's AUROC is the share of all such pairs that are won, so that a fold without one of the classes
    counts for nothing.

    Args:
        labels: (N, C) of 1, 0 and nan for unknown.
        scores: (K, N, C) of K models; rows of a fold below 0 may hold nan.
        folds: (N,) numbers; rows below 0 are in none.

    Returns:
        Values (K,) and influences (K, N).

    """
    labels, scores, folds = np.asarray(labels, dtype=np.float64), np.asarray(scores), np.asarray(folds)
    values, influences = [], []
    for c in range(labels.shape[1]):
        won = np.zeros(len(scores))
        pairs = 0
        influence, offered = np.zeros(scores.shape[:2]), np.zeros(len(folds))
        for fold in np.unique(folds[folds >= 0]):
            rows = np.flatnonzero(folds == fold)
            positive, negative = rows[labels[rows, c] == 1], rows[labels[rows, c] == 0]
            if not len(positive) or not len(negative):
                continue
            pairs += len(positive) * len(negative)
            known = np.concatenate([positive, negative])
            ranks = rankdata(scores[:, known, c], axis=1)
            above = ranks[:, : len(positive)] - rankdata(scores[:, positive, c], axis=1)
            below = ranks[:, len(positive) :] - rankdata(scores[:, negative, c], axis=1)
            won += above.sum(axis=1)
            influence[:, positive], influence[:, negative] = above, len(positive) - below
            offered[positive], offered[negative] = len(negative), len(positive)
        if pairs:
            values.append(won / pairs)
            influences.append((influence - values[-1][:, None] * offered) / pairs)
    if not values:
        return FoldedAuroc(np.full(len(scores), np.nan), np.zeros(scores.shape[:2]))
    return FoldedAuroc(np.mean(values, axis=0), np.mean(influences, axis=0))


def folded_resamples(labels: ArrayLike, scores: ArrayLike, folds: ArrayLike, counts: NDArray[np.integer]) -> Floats:
    """`folded_auroc`'s values (R, K) in R resamples, which hold each row as often as `counts` (N, R) says.

    `resample_counts` draws them. A category that a resample has no pair of makes its value nan, if the rows as they are
    have one.
    """
    labels, scores, folds = np.asarray(labels, dtype=np.float64), np.asarray(scores), np.asarray(folds)
    values = []
    for c in range(labels.shape[1]):
        won = np.zeros((counts.shape[1], len(scores)))
        pairs = np.zeros((counts.shape[1], 1))
        found = False
        for fold in np.unique(folds[folds >= 0]):
            rows = np.flatnonzero(folds == fold)
            positive, negative = labels[rows, c] == 1, labels[rows, c] == 0
            if not positive.any() or not negative.any():
                continue
            found = True
            each = counts[rows[positive]].sum(axis=0) * counts[rows[negative]].sum(axis=0, dtype=np.float64)
            won += np.nan_to_num(auroc(labels[rows, c], scores[:, rows, c].T, counts[rows])) * each[:, None]
            pairs += each[:, None]
        if found:
            values.append(np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0))
    return np.mean(values, axis=0) if values else np.full((counts.shape[1], len(scores)), np.nan)
