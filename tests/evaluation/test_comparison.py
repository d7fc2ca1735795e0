"""Models compared: differences against plain resampling and the jackknife, corrections, ranks, and what is missing."""

from __future__ import annotations

import json
from itertools import combinations
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from cxr_cft.data.truth import StudyLabels
from cxr_cft.evaluation.comparison import Comparison, compare_arrays
from cxr_cft.evaluation.sampled import RESAMPLES, SEED
from cxr_cft.evaluation.score import score_arrays

NAMES = ("plain", "better", "worse")
CATEGORIES = ("Edema", "Fracture", "Mass")


def made(patients=60, studies=2, seed=0, worth=(0.8, 1.3, 0.2)):
    """Labels of three categories, some of them unknown, and scores of three models that share most of their errors."""
    rng = np.random.default_rng(seed)
    rows = patients * studies
    labels = (rng.random((rows, 3)) < 0.4).astype(float)
    shared = rng.normal(size=(rows, 3))
    scores = np.stack([w * labels + shared + 0.4 * rng.normal(size=(rows, 3)) for w in worth])
    labels[rng.random(labels.shape) < 0.2] = np.nan
    names = tuple(f"d/patient{row // studies:05}/study{row % studies + 1}" for row in range(rows))
    return np.round(scores, 2), StudyLabels(Path("labels.csv"), names, CATEGORIES, labels)


@pytest.fixture(scope="module")
def problem():
    return made()


@pytest.fixture(scope="module")
def found(problem) -> Comparison:
    return compare_arrays(NAMES, *problem)


def plainly(labels, scores):
    """AUROCs (M,) of scores (M, N), pair by pair."""
    positive, negative = scores[:, labels == 1], scores[:, labels == 0]
    return (np.sign(positive[:, :, None] - negative[:, None]).mean(axis=(1, 2)) + 1) / 2


def resampled(scores, truth):
    """(R, M, C) AUROCs of resamples that are drawn one patient after the other."""
    rows_of = {}
    for row, study in enumerate(truth.studies):
        rows_of.setdefault(study.split("/")[1], []).append(row)
    patients = list(rows_of.values())
    draws = np.random.default_rng(SEED).integers(len(patients), size=(RESAMPLES, len(patients)))
    values = np.empty((RESAMPLES, len(scores), len(CATEGORIES)))
    for r, drawn in enumerate(draws):
        rows = np.concatenate([patients[patient] for patient in drawn])
        for c in range(len(CATEGORIES)):
            values[r, :, c] = plainly(truth.labels[rows, c], scores[:, rows, c])
    return values


# ---- the numbers


def test_every_model_has_the_score_that_it_has_alone(problem, found):
    scores, truth = problem
    for alone, compared in zip(scores, found.scores, strict=True):
        assert compared == score_arrays(alone, truth)


def test_differences_are_of_every_pair_in_the_order_given_the_means_first(found):
    pairs = list(combinations(NAMES, 2))
    assert [(each.first, each.second, each.category) for each in found.differences] == [
        (first, second, category) for category in (None, *CATEGORIES) for first, second in pairs
    ]


def test_a_difference_is_that_of_scikit_learns_aurocs_the_second_less_the_first(problem, found):
    scores, truth = problem
    known = ~np.isnan(truth.labels)
    reference = np.array(
        [[roc_auc_score(truth.labels[known[:, c], c], model[known[:, c], c]) for c in range(3)] for model in scores]
    )
    for each in found.differences:
        apart = reference[NAMES.index(each.second)] - reference[NAMES.index(each.first)]
        value = apart.mean() if each.category is None else apart[CATEGORIES.index(each.category)]
        assert each.value == pytest.approx(value, abs=1e-12)


def test_intervals_and_p_are_those_of_a_paired_bootstrap_over_patients(problem, found):
    samples = resampled(*problem)
    for each in found.differences:
        apart = samples[:, NAMES.index(each.second)] - samples[:, NAMES.index(each.first)]
        apart = apart.mean(axis=1) if each.category is None else apart[:, CATEGORIES.index(each.category)]
        assert (each.low, each.high) == pytest.approx(np.quantile(apart, [0.025, 0.975]), abs=1e-12)
        rarer = min((apart <= 1e-15).sum(), (apart >= -1e-15).sum())
        assert each.p == pytest.approx(min(1, 2 * (1 + rarer) / (1 + RESAMPLES)))


def test_delongs_numbers_of_one_study_a_patient_are_those_of_the_paired_jackknife():
    """DeLong's covariance is nearly the jackknife's over rows, which is worked out here row by row."""
    scores, truth = made(patients=150, studies=1)
    found = compare_arrays(NAMES, scores, truth)
    left_out = np.stack([
        [plainly(np.delete(truth.labels[:, c], row), np.delete(scores[:, :, c], row, axis=1)) for c in range(3)]
        for row in range(150)
    ])  # fmt: skip
    for each in found.differences:
        apart = left_out[:, :, NAMES.index(each.second)] - left_out[:, :, NAMES.index(each.first)]
        apart = apart.mean(axis=1) if each.category is None else apart[:, CATEGORIES.index(each.category)]
        error = np.sqrt(149 / 150 * np.square(apart - apart.mean()).sum())
        assert (each.delong_high - each.delong_low) / 2 == pytest.approx(1.959964 * error, rel=0.03)
        assert each.delong_p == pytest.approx(2 * norm.sf(abs(each.value) / error), rel=0.2, abs=1e-6)


def test_the_mean_of_one_category_differs_as_the_category_does():
    scores, truth = made()
    truth.labels[:, 1:] = np.nan
    means, edema = (compare_arrays(NAMES, scores, truth).differences[k : k + 3] for k in (0, 3))
    for mean, category in zip(means, edema, strict=True):
        assert (mean.value, mean.low, mean.p, mean.delong_low, mean.delong_p) == pytest.approx(
            (category.value, category.low, category.p, category.delong_low, category.delong_p)
        )


def test_studies_of_one_patient_are_no_further_evidence():
    scores, truth = made(patients=80, studies=1)
    studies = tuple(f"{study}-{again}" for again in range(4) for study in truth.studies)
    often = StudyLabels(truth.source, tuple(s.replace("/study1-", "/study") for s in studies), truth.categories,
                        np.tile(truth.labels, (4, 1)))  # fmt: skip
    once, again = compare_arrays(NAMES, scores, truth), compare_arrays(NAMES, np.tile(scores, (1, 4, 1)), often)
    for one, other in zip(once.differences, again.differences, strict=True):
        assert (other.low, other.high, other.delong_low, other.delong_p) == pytest.approx(
            (one.low, one.high, one.delong_low, one.delong_p)
        )


def test_a_model_and_its_copy_do_not_differ():
    scores, truth = made()
    found = compare_arrays(("a", "copy"), np.stack([scores[0], 3 * scores[0] + 1]), truth)
    for each in found.differences:
        assert (each.value, each.low, each.high, each.p, each.corrected) == (0, 0, 0, 1, 1)
        assert (each.delong_low, each.delong_high, each.delong_p) == (0, 0, 1)
    assert found.ranks == (1, 1)
    assert found.rank_intervals == ((1, 1), (1, 1))


# ---- corrections


def test_p_values_are_corrected_by_holm_those_of_the_mean_apart_and_of_all_categories_together(found):
    for group in (found.differences[:3], found.differences[3:]):
        assert {each.category is None for each in group} == {len(group) == 3}
        for plain, corrected in (("p", "corrected"), ("delong_p", "delong_corrected")):
            ordered = sorted(group, key=lambda each: getattr(each, plain))
            highest = 0.0
            for place, each in enumerate(ordered):
                highest = max(highest, min(1.0, getattr(each, plain) * (len(group) - place)))
                assert getattr(each, corrected) == pytest.approx(highest)


def test_of_equal_models_seldom_any_category_is_found_apart():
    """Uncorrected, or by pairs alone, some category of 14 would be below 0.05 in about half of the runs."""
    rng = np.random.default_rng(3)
    names = tuple(f"d/patient{row:05}/study1" for row in range(120))
    categories = tuple(f"c{c}" for c in range(14))
    plain, corrected = [], []
    for _ in range(50):
        labels = (rng.random((120, 14)) < 0.4).astype(float)
        scores = labels + rng.normal(size=(120, 14)) + rng.normal(size=(2, 120, 14))
        truth = StudyLabels(Path("labels.csv"), names, categories, labels)
        differences = compare_arrays(("a", "b"), scores, truth, resamples=2).differences[1:]
        plain.append(min(each.delong_p for each in differences) < 0.05)
        corrected.append(min(each.delong_corrected for each in differences) < 0.05)
    assert np.mean(plain) > 0.35
    assert np.mean(corrected) < 0.15  # 0.05, and three standard errors


def test_against_a_named_model_only_its_own_comparisons_count(found):
    against = found.against("better")
    assert list(against) == ["plain", "worse"]
    for name, each in against.items():
        same = next(other for other in found.differences if {other.first, other.second} == {name, "better"})
        sign = 1 if same.second == name else -1
        assert (each.first, each.second, each.category) == ("better", name, None)
        assert each.value == sign * same.value < 0
        assert sorted([each.low, each.high]) == sorted([sign * same.low, sign * same.high])
        assert each.low < each.value < each.high
        assert each.delong_low < each.value < each.delong_high
        assert each.p == same.p
    smaller, larger = sorted(each.delong_p for each in against.values())
    assert {each.delong_corrected for each in against.values()} == {2 * smaller, max(2 * smaller, larger)}
    with pytest.raises(KeyError):
        found.against("nobody")


def test_of_two_models_the_mean_needs_no_correction():
    scores, truth = made()
    mean, *rest = compare_arrays(NAMES[:2], scores[:2], truth).differences
    assert (mean.corrected, mean.delong_corrected) == (mean.p, mean.delong_p)
    least = min(rest, key=lambda each: each.delong_p)
    assert least.delong_corrected == 3 * least.delong_p


# ---- ranks


def test_ranks_are_by_the_mean_and_their_intervals_by_resamples(problem, found):
    assert found.ranks == (2, 1, 3)
    means = resampled(*problem).mean(axis=2)
    ranks = 1 + (means[:, None] > means[:, :, None] + 1e-12).sum(axis=2)
    for m, ends in enumerate(found.rank_intervals):
        assert ends == tuple(np.quantile(ranks[:, m], [0.025, 0.975]))


# ---- what is missing


def test_a_model_without_a_category_has_no_difference_in_it_and_no_rank(problem, found):
    scores, truth = problem
    scores = scores.copy()
    scores[0, :, 1] = np.nan
    partial = compare_arrays(NAMES, scores, truth)
    assert partial.ranks == (None, 1, 2)
    assert partial.rank_intervals[0] is None
    for each, whole in zip(partial.differences, found.differences, strict=True):
        if each.first == "plain" and each.category in (None, "Fracture"):
            numbers = [value for value in vars(each).values() if isinstance(value, float)]
            assert len(numbers) == 9
            assert all(isnan(number) for number in numbers)
        else:
            assert (each.value, each.low, each.delong_p) == (whole.value, whole.low, whole.delong_p)
    alone = next(each for each in partial.differences if each.category is None and each.first == "better")
    assert alone.corrected == alone.p  # the only pair with means


def test_too_few_positives_leave_a_difference_without_interval_and_p():
    scores, truth = made()
    truth.labels[:, 0] = 0
    truth.labels[:8, 0] = 1  # of four patients
    found = compare_arrays(NAMES, scores, truth)
    for each in found.differences:
        rest = [each.low, each.p, each.corrected, each.delong_low, each.delong_p]
        assert not isnan(each.value)
        assert all(isnan(number) == (each.category in (None, "Edema")) for number in rest)
    assert found.rank_intervals == (None, None, None)
    json.dumps(found.as_json(), allow_nan=False)


def test_two_perfect_models_have_no_interval_of_their_difference(problem):
    scores, truth = problem
    perfect = np.nan_to_num(truth.labels)
    found = compare_arrays(NAMES, np.stack([perfect, 2 * perfect, scores[0]]), truth)
    for each in found.differences:
        both = each.first, each.second
        assert (each.value == 0) == (both == NAMES[:2])
        none = both == NAMES[:2] or each.category is None
        assert isnan(each.low) == isnan(each.p) == isnan(each.delong_p) == none


def test_a_model_that_is_perfect_in_one_category_has_no_interval_of_its_means_differences(problem, found):
    scores, truth = problem
    scores = scores.copy()
    scores[0, :, 1] = -np.nan_to_num(truth.labels[:, 1])  # all the wrong way is as sure
    changed = compare_arrays(NAMES, scores, truth)
    for each, whole in zip(changed.differences[:3], found.differences[:3], strict=True):
        assert not isnan(each.value)
        assert (
            isnan(each.low)
            == isnan(each.p)
            == isnan(each.delong_low)
            == isnan(each.delong_p)
            == (each.first == "plain")
        )
        if each.first != "plain":
            assert (each.low, each.p, each.delong_p) == (whole.low, whole.p, whole.delong_p)
    assert None not in changed.ranks
    assert changed.rank_intervals == (None, None, None)


def test_a_category_without_both_classes_is_left_out_of_the_mean(problem):
    scores, truth = problem
    labels = truth.labels.copy()
    labels[:, 2] = 1
    found = compare_arrays(NAMES, scores, StudyLabels(truth.source, truth.studies, CATEGORIES, labels))
    mean, edema, fracture, mass = (found.differences[k].value for k in (0, 3, 6, 9))
    assert mean == pytest.approx((edema + fracture) / 2)
    assert isnan(mass)


def test_labels_without_any_known_state_give_no_number_and_no_error(problem):
    scores, truth = problem
    unknown = StudyLabels(truth.source, truth.studies, CATEGORIES, np.full_like(truth.labels, np.nan))
    found = compare_arrays(NAMES, scores, unknown)
    assert found.ranks == (None, None, None)
    assert all(isnan(each.value) for each in found.differences)


def test_names_must_be_as_many_as_models_and_different(problem):
    scores, truth = problem
    with pytest.raises(ValueError, match="3 models need as many different names, not a, b, a"):
        compare_arrays(["a", "b", "a"], scores, truth)
    with pytest.raises(ValueError, match="2 models need"):
        compare_arrays(NAMES, scores[:2], truth)


# ---- what --json prints


def test_json_has_every_score_and_every_pair(found):
    shown = found.as_json()
    assert list(shown) == ["studies", "patients", "resamples", "scores", "differences"]
    assert (shown["studies"], shown["patients"], shown["resamples"]) == (120, 60, 1000)
    assert list(shown["scores"]) == list(NAMES)
    for name, score in zip(NAMES, found.scores, strict=True):
        own = dict(shown["scores"][name])
        assert own.pop("rank") == found.ranks[NAMES.index(name)]
        assert own.pop("rank_interval") == list(found.rank_intervals[NAMES.index(name)])
        assert own == score.as_json()
    assert list(shown["differences"][0]) == [
        "first", "second", "category", "difference", "interval", "p", "p_corrected", "delong_interval", "delong_p",
        "delong_p_corrected",
    ]  # fmt: skip
    assert shown["differences"][0]["category"] is None
    assert len(shown["differences"]) == 3 * 4
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
