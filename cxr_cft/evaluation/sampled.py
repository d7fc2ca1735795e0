"""Several models on the same resamples of patients: what every number of a score and of a comparison is read from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxr_cft.data.processors import processors
from cxr_cft.data.table import patient_of
from cxr_cft.data.truth import StudyLabels
from cxr_cft.metrics import (
    FEWEST,
    DeLong,
    bootstrap_auroc,
    bootstrap_average_precision,
    delong,
    mean_delong,
    patients_by_class,
)

Floats = NDArray[np.float64]

SEED = 0  # of the bootstrap: the same files give the same intervals, alone and compared
RESAMPLES = 1000  # assumed: with another seed the ends of an interval move by about a twentieth of its width


@dataclass(frozen=True, eq=False)
class Sampled:
    """AUROC and average precision of M models and C categories, over R resamples of patients that all of them share.

    `auroc` and `precision` are (M, C), their samples (R, M, C); nan where a category has not both classes, or a model
    has no such category. `defined` (C,) are the categories with both classes: means are over all of these. Where fewer
    than `FEWEST` patients have a known positive, or a known negative, samples and DeLong's parts are nan too.
    """

    patients: int
    positive_patients: NDArray[np.intp]
    """(C,): how many have a known positive."""
    negative_patients: NDArray[np.intp]
    defined: NDArray[np.bool_]
    auroc: Floats
    auroc_samples: Floats
    precision: Floats
    precision_samples: Floats
    delong: tuple[DeLong, ...]
    """Of each category, a column a model."""
    mean_delong: DeLong | None
    """Of the mean; None where no category has both classes. Its parts are nan where `mean_samples` are."""

    def mean(self, values: Floats) -> Floats:
        """The mean (...) of (..., C) over the categories with both classes, nan where there are none."""
        if not self.defined.any():
            return np.full(values.shape[:-1], np.nan)
        mean: Floats = values[..., self.defined].mean(axis=-1)
        return mean

    def mean_samples(self, values: Floats, samples: Floats) -> Floats:
        """The mean (R, M) of samples (R, M, C) whose values are (M, C), nan for a model that is perfect somewhere.

        A perfect category (1, or 0) is so in every resample: the mean would vary as if that one were certain.
        """
        return np.where(_perfect(values[:, self.defined]), np.nan, self.mean(samples))


def patients_of(truth: StudyLabels) -> NDArray[np.intp]:
    """Each study's patient (S,), as a number."""
    return np.unique([patient_of(study) for study in truth.studies], return_inverse=True)[1]


def sample(scores: Floats, truth: StudyLabels, resamples: int = RESAMPLES) -> Sampled:
    """Score and resample (M, S, C) scores; a category that a model does not have is nan in all of its studies."""
    labels, patients = truth.labels, patients_of(truth)
    absent = np.asarray(np.isnan(scores).all(axis=1))  # (M, C)
    filled = np.where(absent[:, None], 0.0, scores)

    auroc, precision = (
        resample(labels, filled, patients, rng=np.random.default_rng(SEED), resamples=resamples, threads=processors())
        for resample in (bootstrap_auroc, bootstrap_average_precision)
    )
    for values in (auroc.estimate, auroc.samples, precision.estimate, precision.samples):
        values[..., absent] = np.nan

    positive, negative = np.array([patients_by_class(column, patients) for column in labels.T]).T
    few = np.minimum(positive, negative) < FEWEST
    for values in (auroc.samples, precision.samples):
        values[..., few] = np.nan

    def by_delong(c: int) -> DeLong:
        found = replace(delong(labels[:, c], filled[:, :, c].T, patients), auroc=auroc.estimate[:, c])
        return replace(found, parts=np.full_like(found.parts, np.nan)) if few[c] else found

    found = [by_delong(c) for c in range(labels.shape[1])]
    defined = np.asarray((labels == 1).any(axis=0) & (labels == 0).any(axis=0))
    averaged = [each for each, both in zip(found, defined, strict=True) if both]
    mean = mean_delong(averaged) if averaged else None
    if mean:
        perfect = _perfect(auroc.estimate[:, defined])
        mean = replace(mean, parts=np.where(perfect, np.nan, mean.parts))
    return Sampled(
        patients=int(patients.max()) + 1,
        positive_patients=positive,
        negative_patients=negative,
        defined=defined,
        auroc=auroc.estimate,
        auroc_samples=auroc.samples,
        precision=precision.estimate,
        precision_samples=precision.samples,
        delong=tuple(found),
        mean_delong=mean,
    )


def _perfect(values: Floats) -> NDArray[np.bool_]:
    """Which models (M,) separate the classes of one of the categories (M, C) without an error, or all the wrong way."""
    return np.asarray(np.isin(values, (0.0, 1.0)).any(axis=-1))
