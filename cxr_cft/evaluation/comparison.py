"""Several models on the same studies: ranks, and every pair's difference with intervals and corrected p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cxr_cft.data.truth import StudyLabels
from cxr_cft.evaluation.sampled import RESAMPLES, Sampled, sample
from cxr_cft.evaluation.score import Score, ends_or_none, or_none, score_of
from cxr_cft.metrics import DeLong, bootstrap_p, holm, percentile_interval


@dataclass(frozen=True)
class Difference:
    """The AUROC of `second` less that of `first`, of one category, or of the mean where `category` is None.

    `low`, `high` and `p` are by bootstrap: both models are scored on the same resamples of patients. `delong_low`,
    `delong_high` and `delong_p` are DeLong's, with patients as clusters. Intervals are 95 % and for this pair alone;
    p-values are two-sided. `corrected` and `delong_corrected` are p by Holm's method: of the mean for as many
    comparisons as there are pairs, of a category for those of all pairs in all categories. nan where there is no such
    number: a model has no such category, patients with positives or negatives are fewer than `FEWEST`, or both models
    separate them perfectly. Of the mean there is no interval and no p, either, where one of the models separates a
    category perfectly.
    """

    first: str
    second: str
    category: str | None
    value: float
    low: float
    high: float
    p: float
    corrected: float
    delong_low: float
    delong_high: float
    delong_p: float
    delong_corrected: float

    def turned(self) -> Difference:
        """`first` less `second`."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            value=-self.value,
            low=-self.high,
            high=-self.low,
            delong_low=-self.delong_high,
            delong_high=-self.delong_low,
        )

    def as_json(self) -> dict[str, Any]:
        """The numbers as `score --json` prints them, None for nan."""
        return {
            "first": self.first,
            "second": self.second,
            "category": self.category,
            "difference": or_none(self.value),
            "interval": ends_or_none((self.low, self.high)),
            "p": or_none(self.p),
            "p_corrected": or_none(self.corrected),
            "delong_interval": ends_or_none((self.delong_low, self.delong_high)),
            "delong_p": or_none(self.delong_p),
            "delong_p_corrected": or_none(self.delong_corrected),
        }


@dataclass(frozen=True)
class Comparison:
    """Models that were scored on the same studies and the same resamples of patients.

    `ranks` are by mean AUROC, 1 the highest, equal ones alike; `rank_intervals` hold 95 % of the ranks in resamples.
    Both are None for a model without a mean, and no rank has an interval while some model's mean has none.
    `differences` are of every pair: of the mean, if any category has both classes, and then of each category.
    """

    names: tuple[str, ...]
    scores: tuple[Score, ...]
    ranks: tuple[int | None, ...]
    rank_intervals: tuple[tuple[int, int] | None, ...]
    differences: tuple[Difference, ...]
    resamples: int

    def against(self, name: str) -> Mapping[str, Difference]:
        """Every other model less the named one, for the mean, corrected for that many comparisons.

        That is for a model that was named beforehand; for the best of these very numbers, `differences` are corrected
        enough. Raises KeyError for a name that is none of `names`.
        """
        if name not in self.names:
            raise KeyError(name)
        pairs = [each for each in self.differences if each.category is None and name in (each.first, each.second)]
        return {each.second: each for each in _corrected([p if p.first == name else p.turned() for p in pairs])}

    def as_json(self) -> dict[str, Any]:
        """The numbers as `score --json` prints them, None for nan."""
        rows = zip(self.names, self.ranks, self.rank_intervals, self.scores, strict=True)
        return {
            "studies": self.scores[0].studies,
            "patients": self.scores[0].patients,
            "resamples": self.resamples,
            "scores": {
                name: {"rank": rank, "rank_interval": list(ends) if ends else None, **score.as_json()}
                for name, rank, ends, score in rows
            },
            "differences": [each.as_json() for each in self.differences],
        }


def compare_arrays(
    names: Sequence[str], scores: NDArray[np.float64], truth: StudyLabels, *, resamples: int = RESAMPLES
) -> Comparison:
    """Compare M models by their (M, S, C) scores, rows and columns in the order of the labels.

    A model whose scores of a category are nan throughout does not have it, and has no mean if that category has both
    classes. Raises ValueError unless there are M different names.
    """
    if len(set(names)) != len(scores) or len(names) != len(scores):
        raise ValueError(f"{len(scores)} models need as many different names, not {', '.join(names)}")
    sampled = sample(scores, truth, resamples)
    means, by_category = [], []
    if sampled.mean_delong:
        samples = sampled.mean_samples(sampled.auroc, sampled.auroc_samples)
        means = _pairs(names, None, samples, sampled.mean_delong)
    for c, category in enumerate(truth.categories):
        by_category += _pairs(names, category, sampled.auroc_samples[:, :, c], sampled.delong[c])
    ranks, rank_intervals = _ranks(sampled)
    return Comparison(
        names=tuple(names),
        scores=tuple(score_of(m, scores[m], truth, sampled) for m in range(len(names))),
        ranks=ranks,
        rank_intervals=rank_intervals,
        differences=(*_corrected(means), *_corrected(by_category)),
        resamples=resamples,
    )


def _pairs(names: Sequence[str], category: str | None, samples: NDArray[np.float64], found: DeLong) -> list[Difference]:
    """All differences of one category, or of the mean, not yet corrected."""
    differences = []
    for a, b in combinations(range(len(names)), 2):
        value, delong_low, delong_high, delong_p = found.difference(b, a)
        apart = samples[:, b] - samples[:, a]
        if {found.auroc[a], found.auroc[b]} <= {0.0, 1.0}:  # perfect in every resample, which is not certainty
            apart = np.full(len(apart), np.nan)
        low, high = percentile_interval(apart)
        p = bootstrap_p(apart)
        differences.append(
            Difference(
                first=names[a],
                second=names[b],
                category=category,
                value=value,
                low=float(low),
                high=float(high),
                p=p,
                corrected=p,
                delong_low=delong_low,
                delong_high=delong_high,
                delong_p=delong_p,
                delong_corrected=delong_p,
            )
        )
    return differences


def _corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The differences with both p-values corrected for their number."""
    bootstrapped = holm([each.p for each in differences])
    normal = holm([each.delong_p for each in differences])
    return [
        replace(each, corrected=float(p), delong_corrected=float(delong_p))
        for each, p, delong_p in zip(differences, bootstrapped, normal, strict=True)
    ]


def _ranks(sampled: Sampled) -> tuple[tuple[int | None, ...], tuple[tuple[int, int] | None, ...]]:
    """Each model's rank by mean AUROC, and the interval of its rank in the resamples."""
    means, samples = sampled.mean(sampled.auroc), sampled.mean_samples(sampled.auroc, sampled.auroc_samples)
    ranked = np.flatnonzero(~np.isnan(means))
    ranks: list[int | None] = [None] * len(means)
    intervals: list[tuple[int, int] | None] = [None] * len(means)
    if not len(ranked):
        return tuple(ranks), tuple(intervals)
    order = rankdata(-means[ranked], method="min")
    among = rankdata(-samples[:, ranked], method="min", axis=1, nan_policy="propagate")
    low, high = percentile_interval(among)
    for m, rank, least, most in zip(ranked.tolist(), order, low, high, strict=True):
        ranks[m] = int(rank)
        intervals[m] = None if np.isnan(least) else (int(np.floor(least)), int(np.ceil(most)))
    return tuple(ranks), tuple(intervals)
