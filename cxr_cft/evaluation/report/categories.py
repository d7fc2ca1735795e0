"""Per category: the headline's curves, its calibration, the radiologists, and what CFT did to it in every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_cft.data.truth import StudyLabels
from cxr_cft.evaluation.report.columns import Column
from cxr_cft.evaluation.report.facts import Category, CftGain, Curve, DataFolder, Entry, Estimate, Reliability
from cxr_cft.evaluation.report.measuring import Ground, two_classes
from cxr_cft.evaluation.sampled import SEED
from cxr_cft.evaluation.score import Score
from cxr_cft.metrics import (
    bootstrap,
    bootstrap_auroc,
    brier,
    calibration_error,
    percentile_interval,
    precision_recall_band,
    radiologist_points,
    reliability,
    roc_band,
)
from cxr_cft.progress import Progress

Floats = NDArray[np.float64]
Gains = Mapping[str, Mapping[str, Estimate]]


def categories_of(
    column: Column,
    entry: Entry,
    score: Score,
    ground: Ground,
    columns: Sequence[Column],
    folder: DataFolder | None,
    progress: Progress,
) -> tuple[Category, ...]:
    """Those of the headline's categories that have both classes, in the labels' order: the competition's first."""
    truth, scores = ground.truth, column.scores
    if scores is None:
        return ()
    patients = np.array(ground.patients)
    gains = measured_gains(columns, truth, patients)
    before = _trained(column, columns)
    points = radiologist_points()
    places = np.flatnonzero(two_classes(truth.labels) & column.predicted)
    found = []
    for c in progress.track(places.tolist(), "drawing curves", len(places), "categories"):
        name, labels, own = truth.categories[c], truth.labels[:, c], scores[:, c]
        found.append(
            Category(
                name=name,
                positives=int((labels == 1).sum()),
                negatives=int((labels == 0).sum()),
                auroc=entry.auroc[name],
                average_precision=entry.average_precision[name],
                roc=_roc(labels, own, patients),
                precision_recall=_precision_recall(labels, own, patients),
                reliability=_reliability(labels, own, patients),
                radiologists=tuple(points.get(name, ())),
                under_roc=score.radiologists.get(name),
                cft=_gains(name, columns, gains),
                states={split: by[name] for split, by in folder.states.items() if name in by} if folder else {},
                before=_roc(labels, before[:, c], patients) if before is not None else None,
            )
        )
    return tuple(found)


def measured_gains(columns: Sequence[Column], truth: StudyLabels, patients: NDArray[np.str_]) -> Gains:
    """The change of each category's AUROC by CFT on the measured studies, by run, with its paired interval."""
    found = {}
    for trained, tuned in _pairs(columns):
        if trained.scores is None or tuned.scores is None:
            continue
        places = np.flatnonzero(two_classes(truth.labels) & trained.predicted & tuned.predicted)
        if not len(places):
            continue
        stack = np.stack([tuned.scores[:, places], trained.scores[:, places]])
        sampled = bootstrap_auroc(truth.labels[:, places], stack, patients, rng=np.random.default_rng(SEED))
        low, high = percentile_interval(sampled.samples[:, 0] - sampled.samples[:, 1])
        change = sampled.estimate[0] - sampled.estimate[1]
        found[trained.name] = {
            truth.categories[c]: Estimate(float(change[n]), float(low[n]), float(high[n]))
            for n, c in enumerate(places.tolist())
        }
    return found


def _pairs(columns: Sequence[Column]) -> list[tuple[Column, Column]]:
    """The columns of each tuned run: by the trained head, and by the tuned one."""
    trained = {column.run.name: column for column in columns if column.run and not column.tuned}
    return [(trained[column.run.name], column) for column in columns if column.run and column.tuned]


def _gains(category: str, columns: Sequence[Column], gains: Gains) -> tuple[CftGain, ...]:
    found = []
    for trained, tuned in _pairs(columns):
        cft = tuned.run.cft if tuned.run else None
        if cft is None:
            continue
        for row in cft.categories:
            if row.category == category:
                gain = Estimate(*(np.nan if x is None else x for x in (row.gain, row.gain_low, row.gain_high)))
                measured = gains.get(trained.name, {}).get(category)
                found.append(
                    CftGain(
                        trained.name, row.method, row.before, row.after, gain, measured, row.reason or "", cft.metric
                    )
                )
    return tuple(found)


def _trained(column: Column, columns: Sequence[Column]) -> Floats | None:
    """The scores of the same run before CFT, where the column is a tuned run."""
    return next((trained.scores for trained, tuned in _pairs(columns) if tuned.name == column.name), None)


def _roc(labels: Floats, scores: Floats, patients: NDArray[np.str_]) -> Curve:
    band = roc_band(labels, scores, patients, rng=np.random.default_rng(SEED))
    return Curve(band.x, band.y, band.grid, band.low, band.high)


def _precision_recall(labels: Floats, scores: Floats, patients: NDArray[np.str_]) -> Curve:
    band = precision_recall_band(labels, scores, patients, rng=np.random.default_rng(SEED))
    return Curve(band.x, band.y, band.grid, band.low, band.high)


def _reliability(labels: Floats, scores: Floats, patients: NDArray[np.str_]) -> Reliability | None:
    """None where scores are no probabilities."""
    if ((scores < 0) | (scores > 1)).any():
        return None

    def worth(metric: Callable[[Floats, Floats, NDArray[np.int32]], Any]) -> Estimate:
        def statistic(counts: NDArray[np.int32]) -> Any:
            return metric(labels, scores, counts)

        found = bootstrap(statistic, patients, rng=np.random.default_rng(SEED))
        return Estimate(float(found.estimate), float(found.low), float(found.high))

    bins = reliability(labels, scores)
    errors = worth(brier), worth(calibration_error)
    return Reliability(bins.predicted, bins.observed, bins.low, bins.high, bins.counts, *errors)
