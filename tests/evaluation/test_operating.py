"""Operating points and calibration by category: against plain counts, their intervals, and what has no number."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss, roc_curve

from cxr_cft.data.truth import StudyLabels
from cxr_cft.evaluation.operating import (
    calibrations,
    not_probabilities,
    sensitivities_at,
    thresholds_for,
    youden_thresholds,
)
from cxr_cft.metrics import FEWEST

CATEGORIES = ("Edema", "Fracture")


def made(patients=300, studies=1, seed=0, worth=1.5):
    """Labels of two categories, some unknown, and scores of which the first category's are perfectly calibrated."""
    rng = np.random.default_rng(seed)
    rows = patients * studies
    scores = expit(worth * rng.normal(size=(rows, 2)) - 0.5)
    labels = (rng.random((rows, 2)) < scores).astype(float)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    names = tuple(f"d/patient{row // studies:05}/study{row % studies}" for row in range(rows))
    return scores, StudyLabels(Path("labels.csv"), names, CATEGORIES, labels)


@pytest.fixture(scope="module")
def problem():
    return made()


def known(scores, truth, c):
    rows = ~np.isnan(truth.labels[:, c])
    return truth.labels[rows, c], scores[rows, c]


# ---- the numbers


def test_sensitivity_at_a_specificity_is_the_highest_on_scikit_learns_curve(problem):
    found = sensitivities_at(*problem, 0.9)
    assert list(found) == list(CATEGORIES)
    for c, each in enumerate(found.values()):
        false_rate, true_rate, _ = roc_curve(*known(*problem, c), drop_intermediate=False)
        assert each.value == pytest.approx(true_rate[1 - false_rate >= 0.9].max())
        assert each.low < each.value < each.high


def test_youdens_threshold_is_the_best_on_scikit_learns_curve(problem):
    for c, each in enumerate(youden_thresholds(*problem).values()):
        false_rate, true_rate, thresholds = roc_curve(*known(*problem, c), drop_intermediate=False)
        best = (true_rate - false_rate).argmax()
        assert each.threshold.value == thresholds[best]
        assert each.sensitivity.value == pytest.approx(true_rate[best])
        assert each.specificity.value == pytest.approx(1 - false_rate[best])


def test_the_threshold_for_a_sensitivity_is_the_highest_that_has_it(problem):
    for c, each in enumerate(thresholds_for(*problem, 0.9).values()):
        labels, scores = known(*problem, c)
        assert ((scores >= each.threshold.value) & (labels == 1)).sum() >= 0.9 * labels.sum()
        assert ((scores > each.threshold.value) & (labels == 1)).sum() < 0.9 * labels.sum()
        assert each.sensitivity.value == pytest.approx((scores[labels == 1] >= each.threshold.value).mean())
        assert each.specificity.value == pytest.approx((scores[labels == 0] < each.threshold.value).mean())


def test_the_brier_score_is_scikit_learns_and_stands_beside_the_base_rates(problem):
    for c, each in enumerate(calibrations(*problem).values()):
        labels, scores = known(*problem, c)
        assert each.brier.value == pytest.approx(brier_score_loss(labels, scores))
        assert each.base_rate == pytest.approx(brier_score_loss(labels, np.full(len(labels), labels.mean())))
        assert each.brier.low < each.brier.value < each.brier.high


# ---- how sure they are


def test_the_error_of_true_probabilities_is_what_chance_makes_it_and_of_others_more():
    perfect = [calibrations(*made(200, seed=seed))["Edema"] for seed in range(5)]
    errors, expected = [each.error.value for each in perfect], [each.perfect for each in perfect]
    assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.25)
    scores, truth = made(2000)
    wrong = calibrations(scores**3, truth)["Edema"]
    assert wrong.error.low > 2 * wrong.perfect
    for each in [*perfect, wrong]:
        assert 0 <= each.error.low < each.error.value < each.error.high


def test_a_threshold_chosen_on_few_studies_may_give_less_elsewhere():
    """The interval is of thresholds that are applied to other patients: it covers what they give on a large sample."""
    scores, truth = made(20000, seed=9)
    labels, column = known(scores, truth, 0)
    covered = []
    for seed in range(8):
        for rule in (youden_thresholds, lambda *given: thresholds_for(*given, 0.9)):
            each = rule(*made(80, seed=seed))["Edema"]
            for rate, true in (
                (each.sensitivity, (column[labels == 1] >= each.threshold.value).mean()),
                (each.specificity, (column[labels == 0] < each.threshold.value).mean()),
            ):
                covered.append(rate.low <= true <= rate.high)
    assert np.mean(covered) > 0.9
    # On resamples that chose it, a threshold for a sensitivity of 0.9 never has less: there the interval would begin.
    assert thresholds_for(*made(80), 0.9)["Edema"].sensitivity.low < 0.9


def test_a_score_at_the_threshold_is_called_positive_in_resamples_too():
    scores, truth = made()
    for each in youden_thresholds((scores > 0.5).astype(float), truth).values():
        assert each.threshold.value == 1
        assert isnan(each.threshold.low)  # the same in all resamples, which is not certainty
        assert isnan(each.threshold.high)
        for rate in each[1:]:
            assert 0 < rate.low < rate.value < rate.high < 1


def test_studies_of_one_patient_make_no_interval_narrower():
    scores, truth = made(100)
    often = StudyLabels(
        truth.source,
        tuple(f"{study}{again}" for again in range(4) for study in truth.studies),
        CATEGORIES,
        np.tile(truth.labels, (4, 1)),
    )
    many = np.tile(scores, (4, 1))
    assert sensitivities_at(many, often, 0.8) == sensitivities_at(scores, truth, 0.8)
    assert youden_thresholds(many, often) == youden_thresholds(scores, truth)
    assert calibrations(many, often)["Edema"].brier == pytest.approx(calibrations(scores, truth)["Edema"].brier)


def test_large_tables_are_resampled_block_by_block(monkeypatch):
    scores, truth = made(100)
    whole = youden_thresholds(scores, truth)["Edema"]
    monkeypatch.setattr("cxr_cft.evaluation.operating.BLOCK_CELLS", 700)
    parts = youden_thresholds(scores, truth)["Edema"]
    for one, other in zip(whole, parts, strict=True):
        assert other.value == one.value
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.1)


def test_the_same_studies_give_the_same_numbers(problem):
    assert thresholds_for(*problem, 0.9) == thresholds_for(*problem, 0.9)
    assert calibrations(*problem) == calibrations(*problem)


def test_a_categorys_numbers_do_not_hang_on_which_others_there_are(problem):
    scores, truth = problem
    alone = StudyLabels(truth.source, truth.studies, CATEGORIES[1:], truth.labels[:, 1:])
    assert calibrations(scores[:, 1:], alone)["Fracture"] == calibrations(scores, truth)["Fracture"]


# ---- what has no number


@pytest.mark.parametrize("state", [0.0, 1.0])
def test_fewer_than_five_patients_of_a_class_leave_numbers_without_intervals(state):
    for patients in (FEWEST - 1, FEWEST):
        scores, truth = made(100, studies=2)
        truth.labels[:, 0] = 1 - state
        truth.labels[: 2 * patients, 0] = state
        numbers = [
            sensitivities_at(scores, truth, 0.5)["Edema"],
            *youden_thresholds(scores, truth)["Edema"],
            *thresholds_for(scores, truth, 0.5)["Edema"],
            *calibrations(scores, truth)["Edema"][::2],
        ]
        assert len(numbers) == 9
        for each in numbers:
            assert not isnan(each.value)
            assert isnan(each.low) == isnan(each.high) == (patients < FEWEST)
        assert not isnan(sensitivities_at(scores, truth, 0.5)["Fracture"].low)
        json.dumps([each.as_json() for each in numbers], allow_nan=False)


def test_what_is_the_same_in_every_resample_has_no_interval():
    scores, truth = made()
    perfect = np.nan_to_num(truth.labels) * 0.5 + 0.25 * scores
    assert sensitivities_at(perfect, truth, 0.9)["Edema"].value == 1
    assert isnan(sensitivities_at(perfect, truth, 0.9)["Edema"].low)
    each = youden_thresholds(perfect, truth)["Edema"]
    assert each.threshold.low < each.threshold.high
    assert (each.specificity.value, isnan(each.specificity.low)) == (1, True)
    assert each.sensitivity.low < each.sensitivity.value == 1  # of thresholds that other patients chose


def test_a_ranking_without_any_worth_has_no_youden_threshold():
    scores, truth = made()
    each = youden_thresholds(-scores.round(0) * 0, truth)["Edema"]
    assert all(isnan(number) for estimate in each for number in estimate)


@pytest.mark.parametrize("of", [youden_thresholds, calibrations, lambda *given: sensitivities_at(*given, 0.9)])
def test_a_category_without_scores_or_without_known_labels_is_left_out(of):
    scores, truth = made()
    truth.labels[:, 0] = np.nan
    assert list(of(scores, truth)) == ["Fracture"]
    scores[:, 1] = np.nan
    assert of(scores, truth) == {}


def test_scores_outside_0_and_1_have_no_calibration_and_are_named():
    scores, truth = made()
    assert not_probabilities(scores, truth) == {}
    scores[3, 0], scores[4, 0] = 1.5, -2.25
    assert not_probabilities(scores, truth) == {"Edema": -2.25}
    assert list(calibrations(scores, truth)) == ["Fracture"]
