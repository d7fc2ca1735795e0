"""The search for ensemble weights, and what it is worth on studies that it has not seen, beside equal weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from cxr_cft.data.labels import COMPETITION
from cxr_cft.data.odds import logit
from cxr_cft.data.table import patient_of
from cxr_cft.ensemble.blend import blend_scores, standardise
from cxr_cft.ensemble.file import Ensemble, Estimate, MemberEntry, Scale
from cxr_cft.ensemble.members import Member
from cxr_cft.errors import PredictionsError
from cxr_cft.metrics import auroc, bootstrap_auroc, percentile_interval
from cxr_cft.progress import SILENT, Progress
from cxr_cft.search import maximise

Floats = NDArray[np.float64]

FOLDS = 5  # of patients; a search on four fifths is near enough to one on all (assumed)
POPULATION = 60  # assumed
GENERATIONS = 150  # assumed: with a handful of members the fitness has levelled off by then
PATIENCE = 40  # generations without a better fitness (assumed)
STEP = 0.25  # the largest mutation of a weight, where all weights sum to 1 (assumed)
FLAT = 1e-9  # scores that vary by less say nothing; scaling them up would blend rounding noise (assumed)


def search_weights(
    members: Sequence[Member],
    studies: Sequence[str],
    labels: Floats,
    categories: Sequence[str],
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Ensemble:
    """Search weights ≥ 0, one a member, that maximise the mean AUROC of the blend over validation studies.

    `labels` is (S, C) of 1, 0 and nan for `studies` and `categories`. The mean is over those of the competition's
    categories that have both classes; where there is none of them, over all that do. The same search is repeated on
    the patients of four folds out of five and judged on the fifth, as equal weights are; the file's weights are the
    genetic algorithm's only where it wins there by more than chance: the whole 95 % interval of the difference lies
    above 0. Raises PredictionsError if a member lacks a study, no category can be scored, or all studies are of one
    patient.
    """
    scored = _scored(labels, categories)
    if not scored:
        raise PredictionsError("no category has both a positive and a negative study among the labels")
    scores = np.stack([member.predictions.rows(studies) for member in members])
    patients = np.array([patient_of(study) for study in studies])
    if len(set(patients)) < 2:
        raise PredictionsError(
            f"all studies are of one patient, '{patients[0]}', so that no weights can be judged on other patients; "
            "a study's name ends in …/PATIENT/STUDY"
        )
    problem = _Problem(scores, labels, scored)
    equal = np.full(len(members), 1 / len(members))
    found = problem.search(np.ones(len(studies), dtype=bool), np.random.default_rng([seed, 1]))
    out_of_fold, resampled = _judge(problem, patients, seed, progress)
    interval = _interval(resampled[:, 1] - resampled[:, 0])
    wins = interval is not None and interval[0] > 0
    chosen = found if wins else equal
    scale = _scales(scores)
    prior = blend_scores(scores, chosen, *scale).mean(axis=0)

    def estimate(weights: Floats, row: int) -> Estimate:
        return Estimate(
            weights={member.name: float(weight) for member, weight in zip(members, weights, strict=True)},
            fitted=problem.fitness(weights),
            out_of_fold=float(out_of_fold[row]),
            interval=_interval(resampled[:, row]),
        )

    return Ensemble(
        version=version("cxr-cft"),
        seed=seed,
        categories=tuple(categories),
        scored=tuple(categories[c] for c in scored),
        studies=len(studies),
        positives={categories[c]: int((labels[:, c] == 1).sum()) for c in scored},
        members=tuple(
            _entry(member, float(chosen[m]), [part[m] for part in scale], categories)
            for m, member in enumerate(members)
        ),
        chosen="ga" if wins else "equal",
        equal=estimate(equal, 0),
        ga=estimate(found, 1),
        difference=float(out_of_fold[1] - out_of_fold[0]),
        interval=interval,
        prior=dict(zip(categories, prior.tolist(), strict=True)),
    )


def _judge(problem: _Problem, patients: NDArray[np.str_], seed: int, progress: Progress) -> tuple[Floats, Floats]:
    """Mean AUROC (2,) of equal and of searched weights on studies that neither has seen, and resamples of it (R, 2)."""
    scores, labels = problem.scores, problem.labels
    equal = np.full(len(scores), 1 / len(scores))
    folds = list(_folds(patients, np.random.default_rng([seed, 0])))
    unseen = np.full((2, *labels.shape), np.nan)
    for fold, held_out in enumerate(progress.track(folds, "judging out of fold", len(folds), "folds")):
        searched = problem.search(~held_out, np.random.default_rng([seed, 2, fold]))
        scale = _scales(scores[:, ~held_out])
        for row, weights in enumerate((equal, searched)):
            unseen[row, held_out] = _blended(scores[:, held_out], weights, scale)
    rng = np.random.default_rng([seed, 3])
    judged = bootstrap_auroc(labels[:, problem.scored], unseen[:, :, problem.scored], patients, rng=rng)
    return judged.estimate.mean(axis=-1), judged.samples.mean(axis=-1)


def _blended(scores: Floats, weights: Floats, scale: tuple[NDArray[np.bool_], Floats, Floats]) -> Floats:
    """The blend (S, C) on the common scale, on which folds are pooled.

    A probability's scale hangs on the weights wherever members are calibrated differently: pooled, folds with other
    weights would be shifted against each other, which costs the genetic algorithm what equal weights never pay.
    """
    return np.asarray(np.einsum("m,msc->sc", weights, standardise(scores, *scale)))


def _interval(samples: Floats) -> tuple[float, float] | None:
    low, high = percentile_interval(samples)
    return None if np.isnan(low) else (float(low), float(high))


class _Problem:
    """Members' scores and labels, and the search over any part of the studies."""

    def __init__(self, scores: Floats, labels: Floats, scored: Sequence[int]):
        self.scores, self.labels, self.scored = scores, labels, scored

    def search(self, rows: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
        """The weights (M,) that do best on the studies of `rows`; equal weights compete."""
        number = len(self.scores)
        if number == 1 or not self._defined(rows):
            return np.full(number, 1 / number)
        fitness = self._fitness_on(rows)
        found = maximise(
            fitness,
            np.full(number, 1 / number),
            scale=STEP,
            rng=rng,
            population=POPULATION,
            generations=GENERATIONS,
            patience=PATIENCE,
            lower=0.0,
            project=_onto_simplex,
        )
        return found.genome

    def fitness(self, weights: Floats) -> float:
        """The mean AUROC of the blend over all studies."""
        return float(self._fitness_on(np.ones(len(self.labels), dtype=bool))(weights[None])[0])

    def _fitness_on(self, rows: NDArray[np.bool_]) -> Callable[[Floats], Floats]:
        scores, labels, defined = self.scores[:, rows], self.labels[rows], self._defined(rows)
        z = standardise(scores, *_scales(scores))

        def fitness(population: Floats) -> Floats:
            columns = [auroc(labels[:, c], (population @ z[:, :, c]).T) for c in defined]
            return np.asarray(np.mean(columns, axis=0))

        return fitness

    def _defined(self, rows: NDArray[np.bool_]) -> list[int]:
        """The scored categories that have both classes among `rows`: four folds may lack one of a rare category."""
        both = _both_classes(self.labels[rows])
        return [c for c in self.scored if both[c]]


def _onto_simplex(population: Floats) -> Floats:
    """Non-negative genomes (P, M) scaled to sum 1; one that is all zeros becomes equal weights."""
    total = population.sum(axis=1, keepdims=True)
    return np.where(total > 0, population / np.where(total > 0, total, 1.0), 1.0 / population.shape[1])


def _scales(scores: Floats) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """What brings scores (M, S, C) to one scale, each (M, C): are they probabilities, and their mean and deviation.

    Mean and deviation are of the logits where they are probabilities.
    """
    probability = np.asarray(((scores >= 0) & (scores <= 1)).all(axis=1))
    x = np.where(probability[:, None, :], logit(scores), scores)
    center, spread = x.mean(axis=1), x.std(axis=1)
    return probability, center, np.where(spread > FLAT, spread, 1.0)


def _scored(labels: Floats, categories: Sequence[str]) -> list[int]:
    both = _both_classes(labels)
    usable = [c for c in range(len(categories)) if both[c]]
    competition = [c for c in usable if categories[c] in COMPETITION]
    return competition or usable


def _both_classes(labels: Floats) -> NDArray[np.bool_]:
    return np.asarray((labels == 1).any(axis=0) & (labels == 0).any(axis=0))


def _folds(patients: NDArray[np.str_], rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Masks (S,) of the held-out studies, patients kept whole."""
    names, codes = np.unique(patients, return_inverse=True)
    fold = rng.permutation(len(names)) % min(FOLDS, len(names))
    for number in range(min(FOLDS, len(names))):
        yield fold[codes] == number


def _entry(
    member: Member, weight: float, scale: Sequence[NDArray[np.generic]], categories: Sequence[str]
) -> MemberEntry:
    probability, center, spread = scale
    scales = {
        category: Scale(probability=bool(probability[c]), center=float(center[c]), spread=float(spread[c]))
        for c, category in enumerate(categories)
    }
    return MemberEntry(
        name=member.name,
        kind=member.kind,
        source=str(member.source.resolve()),
        tuned=member.tuned,
        fingerprint=member.fingerprint,
        weight=weight,
        scale=scales,
    )
