"""The competition's numbers from a prediction CSV and a label CSV: AUROC, intervals, radiologists under the curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_cft.data.predictions import read_predictions
from cxr_cft.data.table import patient_of
from cxr_cft.data.truth import StudyLabels, read_labels
from cxr_cft.errors import PredictionsError, first_few
from cxr_cft.metrics import bootstrap_auroc, percentile_interval, radiologist_points, radiologists_under_roc

SEED = 0  # of the bootstrap: the same files give the same intervals


@dataclass(frozen=True)
class Score:
    """A prediction CSV's worth on labelled studies; nan where a category has not both classes, and left out of means.

    `interval` and `mean_interval` are 95 %, by bootstrap over patients; nan where positives are too few for one.
    `radiologists` counts, of the competition's three, those whose operating point lies under the curve.
    """

    studies: int
    positives: dict[str, int]
    auroc: dict[str, float]
    interval: dict[str, tuple[float, float]]
    mean_auroc: float
    mean_interval: tuple[float, float]
    radiologists: dict[str, int]
    mean_radiologists: float

    def as_json(self) -> dict[str, Any]:
        """The numbers as `score --json` prints them, None for nan."""
        return {
            "mean_auroc": _or_none(self.mean_auroc),
            "auroc": {category: _or_none(value) for category, value in self.auroc.items()},
            "interval": {category: [_or_none(end) for end in ends] for category, ends in self.interval.items()},
            "mean_radiologists_under_roc": _or_none(self.mean_radiologists),
            "radiologists_under_roc": dict(self.radiologists),
            "studies": self.studies,
        }


def score_file(predictions: Path, labels: Path | StudyLabels) -> Score:
    """Score a prediction CSV on exactly the studies of a label CSV, as the competition's evaluator does.

    Raises PredictionsError if a study is missing, added or doubled, or a category or number is missing; DataError for
    labels that cannot be read.
    """
    truth = labels if isinstance(labels, StudyLabels) else read_labels(labels)
    found = read_predictions(predictions, truth.categories)
    scores = found.rows(truth.studies)
    added = set(found.studies) - set(truth.studies)
    if added:
        raise PredictionsError(
            f"{predictions} has {len(added)} studies that {truth.source} lacks: {first_few(sorted(added))}"
        )
    return score_arrays(scores, truth)


def score_arrays(scores: NDArray[np.float64], truth: StudyLabels) -> Score:
    """Score (S, C) scores, rows and columns in the order of the labels."""
    patients = [patient_of(study) for study in truth.studies]
    sampled = bootstrap_auroc(truth.labels, scores, patients, rng=np.random.default_rng(SEED))
    defined = ~np.isnan(sampled.estimate)
    low, high = percentile_interval(sampled.samples[:, defined].mean(axis=-1)) if defined.any() else (np.nan, np.nan)
    points = radiologist_points()
    under = {
        category: radiologists_under_roc(truth.labels[:, c], scores[:, c], points[category])
        for c, category in enumerate(truth.categories)
        if defined[c] and category in points
    }

    def named(values: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(truth.categories, values.tolist(), strict=True))

    return Score(
        studies=len(truth.studies),
        positives=dict(zip(truth.categories, (truth.labels == 1).sum(axis=0).tolist(), strict=True)),
        auroc=named(sampled.estimate),
        interval={name: (named(sampled.low)[name], named(sampled.high)[name]) for name in truth.categories},
        mean_auroc=float(sampled.estimate[defined].mean()) if defined.any() else float("nan"),
        mean_interval=(float(low), float(high)),
        radiologists=under,
        mean_radiologists=float(np.mean(list(under.values()))) if under else float("nan"),
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
