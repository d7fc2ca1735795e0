"""Pairs within a fold count, pairs across folds do not; and how far the value would move with other patients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from cxr_cft.metrics import auroc, resample_counts
from cxr_cft.metrics.folded import FoldedAuroc, folded_auroc, folded_resamples


@st.composite
def cases(draw):
    """Labels (N, C) with unknowns, tying scores (K, N, C), folds (N,) of which −1 is none."""
    rows, categories, models = draw(st.integers(1, 25)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    labels = draw(hnp.arrays(np.float64, (rows, categories), elements=st.sampled_from([0.0, 1.0, np.nan])))
    scores = draw(hnp.arrays(np.float64, (models, rows, categories), elements=st.integers(-3, 3)))
    folds = draw(hnp.arrays(np.int64, rows, elements=st.integers(-1, 3)))
    return labels, scores, folds


def naive(labels, scores, folds):
    """Every pair, one after the other, of one model (N, C)."""
    areas = []
    for label, score in zip(labels.T, scores.T, strict=True):
        won = pairs = 0.0
        for p in np.flatnonzero(label == 1):
            for q in np.flatnonzero((label == 0) & (folds == folds[p]) & (folds[p] >= 0)):
                won += (score[p] > score[q]) + 0.5 * (score[p] == score[q])
                pairs += 1
        if pairs:
            areas.append(won / pairs)
    return np.mean(areas) if areas else np.nan


def column(values):
    """Of one category, and for scores one model: (N,) becomes (N, 1) or (1, N, 1)."""
    return np.asarray(values, dtype=np.float64)[:, None]


@pytest.fixture
def made():
    """Labels (60, 2) with unknowns, scores of three models (3, 60, 2), four folds and twenty patients of three rows."""
    rng = np.random.default_rng(5)
    labels = rng.choice([0.0, 1.0, np.nan], p=[0.5, 0.35, 0.15], size=(60, 2))
    scores = rng.normal(size=(3, 60, 2)) + 0.7 * np.nan_to_num(labels)
    return labels, scores, np.repeat(np.arange(4), 15), np.repeat(np.arange(20), 3)


@settings(deadline=None)
@given(case=cases())
def test_is_the_share_of_the_pairs_within_folds_that_are_won(case):
    labels, scores, folds = case
    expected = [naive(labels, model, folds) for model in scores]
    np.testing.assert_allclose(folded_auroc(labels, scores, folds).value, expected, rtol=1e-12)


def test_one_fold_is_scikit_learns_mean_over_categories(made):
    labels, scores, *_ = made
    expected = [
        np.mean([roc_auc_score(y[~np.isnan(y)], x[~np.isnan(y)]) for y, x in zip(labels.T, model.T, strict=True)])
        for model in scores
    ]
    np.testing.assert_allclose(folded_auroc(labels, scores, np.zeros(60)).value, expected, rtol=1e-12)


def test_two_folds_worked_out_by_hand():
    # Fold 0: 3 beats 1 and 2, 2 beats 1 and ties: 3½ of 4 pairs. Fold 1: 7 loses to 8: 0 of 1. Together 3½ of 5.
    labels, scores = [1, 1, 0, 0, 1, 0], [3, 2, 1, 2, 7, 8]
    table = folded_auroc(column(labels), column(scores)[None], [0, 0, 0, 0, 1, 1])
    assert table.value.item() == 3.5 / 5
    # Leaving a row out by a little moves won and pairs: (its won pairs − 0.7 · its pairs) / 5.
    expected = [(2 - 1.4) / 5, (1.5 - 1.4) / 5, (2 - 1.4) / 5, (1.5 - 1.4) / 5, -0.7 / 5, -0.7 / 5]
    np.testing.assert_allclose(table.influence, [expected], rtol=1e-12)


def test_a_fold_without_one_of_the_classes_counts_for_nothing(made):
    labels, scores, folds, _ = made
    labels[folds == 2] = np.where(np.isnan(labels[folds == 2]), np.nan, 0.0)
    without = folded_auroc(labels[folds != 2], scores[:, folds != 2], folds[folds != 2])
    table = folded_auroc(labels, scores, folds)
    np.testing.assert_array_equal(table.value, without.value)
    np.testing.assert_array_equal(table.influence[:, folds != 2], without.influence)
    assert not table.influence[:, folds == 2].any()


def test_another_scale_in_one_fold_changes_nothing(made):
    labels, scores, folds, _ = made
    moved = np.where((folds == 1)[:, None], 50 + 3 * scores, scores)
    expected, table = folded_auroc(labels, scores, folds), folded_auroc(labels, moved, folds)
    np.testing.assert_array_equal(table.value, expected.value)
    np.testing.assert_array_equal(table.influence, expected.influence)
    counts = resample_counts(np.arange(60), 5, np.random.default_rng(0))
    np.testing.assert_array_equal(
        folded_resamples(labels, moved, folds, counts), folded_resamples(labels, scores, folds, counts)
    )


def test_rows_of_no_fold_and_of_no_label_may_have_no_score(made):
    labels, scores, folds, _ = made
    folds[::4] = -1
    there = folds >= 0
    scores[:, ~there] = np.nan
    scores[:, np.isnan(labels)] = np.nan
    expected = folded_auroc(labels[there], scores[:, there], folds[there])
    table = folded_auroc(labels, scores, folds)
    assert np.isfinite(table.value).all()
    np.testing.assert_array_equal(table.value, expected.value)
    np.testing.assert_array_equal(table.influence[:, there], expected.influence)
    assert not table.influence[:, ~there].any()
    np.testing.assert_allclose(
        folded_resamples(labels, scores, folds, np.ones((60, 1), dtype=np.int32))[0], table.value, rtol=1e-12
    )


def test_a_category_without_pairs_is_left_out_of_the_mean(made):
    labels, scores, folds, _ = made
    expected = folded_auroc(labels[:, 1:], scores[:, :, 1:], folds)
    for nothing in (np.nan, 0.0, 1.0):
        labels[:, 0] = nothing
        table = folded_auroc(labels, scores, folds)
        np.testing.assert_array_equal(table.value, expected.value)
        np.testing.assert_array_equal(table.influence, expected.influence)
        counts = np.ones((60, 2), dtype=np.int32)
        np.testing.assert_allclose(folded_resamples(labels, scores, folds, counts), [table.value] * 2, rtol=1e-12)


def test_without_any_pair_there_is_no_value_and_no_influence():
    labels, scores = column([1, 1, 0, 0]), np.zeros((2, 4, 1))
    table = folded_auroc(labels, scores, [0, 0, 1, 1])
    assert np.isnan(table.value).tolist() == [True, True]
    np.testing.assert_array_equal(table.influence, np.zeros((2, 4)))
    counts = np.ones((4, 3), dtype=np.int32)
    values = folded_resamples(labels, scores, [0, 0, 1, 1], counts)
    assert values.shape == (3, 2)
    assert np.isnan(values).all()


@settings(deadline=None)
@given(case=cases())
def test_influences_sum_to_nothing(case):
    np.testing.assert_allclose(folded_auroc(*case).influence.sum(axis=1), 0, atol=1e-12)


def test_an_influence_is_how_fast_the_value_moves_with_its_rows_weight(made):
    labels, scores, folds, _ = made
    labels, scores = labels[:, :1], scores[:, :, :1]
    table, step = folded_auroc(labels, scores, folds), 1000
    for row in range(0, 60, 7):
        counts = np.full((60, 1), step, dtype=np.int32)
        counts[row] += 1
        moved = folded_resamples(labels, scores, folds, counts)[0] - table.value
        np.testing.assert_allclose(step * moved, table.influence[:, row], rtol=0.01, atol=1e-9)


def test_of_one_fold_the_error_is_delongs_but_for_n_in_place_of_n_minus_1():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([1.0, 0.0], [12, 30]))
    scores = np.round(rng.normal(size=(2, 42)) + labels, 1)
    table = folded_auroc(labels[:, None], scores[:, :, None], np.zeros(42))
    wins = scores[:, labels == 1, None] - scores[:, None, labels == 0]
    wins = (wins > 0) + 0.5 * (wins == 0)
    for model in range(2):
        assert table.error(model, np.arange(42)) == pytest.approx(_delong(wins[model]), rel=1e-12)
    assert table.error(0, np.arange(42), 1) == pytest.approx(_delong(wins[0] - wins[1]), rel=1e-12)


def _delong(wins):
    """The root of the variances of the structural components, of positives (rows) and negatives (columns)."""
    return np.sqrt(wins.mean(axis=1).var() / len(wins) + wins.mean(axis=0).var() / len(wins.T))


def test_the_error_is_the_bootstraps_with_patients_kept_whole():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(300), 2)
    patient = rng.normal(size=(300, 1))
    labels = (rng.random((600, 2)) < 0.3).astype(np.float64)
    labels[rng.random((600, 2)) < 0.1] = np.nan
    noise = np.repeat(patient, 2, axis=0) + 0.3 * rng.normal(size=(600, 2))
    scores = np.stack([np.nan_to_num(labels) + noise, 0.8 * np.nan_to_num(labels) + rng.normal(size=(600, 2))])
    folds = np.repeat(np.arange(5), 120)
    table = folded_auroc(labels, scores, folds)
    samples = folded_resamples(labels, scores, folds, resample_counts(groups, 1500, np.random.default_rng(2)))
    assert table.error(0, groups) == pytest.approx(samples[:, 0].std(), rel=0.1)
    assert table.error(1, groups) == pytest.approx(samples[:, 1].std(), rel=0.1)
    assert table.error(0, groups, 1) == pytest.approx((samples[:, 0] - samples[:, 1]).std(), rel=0.1)


def test_rows_of_one_patient_make_the_error_greater_than_if_they_were_independent():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(40) % 2, 10).astype(np.float64)
    scores = np.repeat(rng.normal(size=40) + np.arange(40) % 2, 10)
    table = folded_auroc(labels[:, None], scores[None, :, None], np.zeros(400))
    # Ten copies of every patient know no more than one: the error is that of the forty.
    once = folded_auroc(labels[::10, None], scores[None, ::10, None], np.zeros(40))
    assert table.error(0, np.repeat(np.arange(40), 10)) == pytest.approx(once.error(0, np.arange(40)), rel=1e-12)
    assert table.error(0, np.arange(400)) == pytest.approx(once.error(0, np.arange(40)) / np.sqrt(10), rel=1e-12)


def test_two_models_of_one_ranking_differ_by_nothing_for_certain(made):
    labels, scores, folds, groups = made
    table = folded_auroc(labels, np.stack([scores[0], np.exp(scores[0]), scores[1]]), folds)
    assert table.error(0, groups, 1) == 0
    assert table.error(0, groups, 2) > 0.01
    assert table.error(2, groups, 0) == table.error(0, groups, 2)


def test_numbers_of_groups_may_have_gaps():
    table = FoldedAuroc(np.array([0.5]), np.array([[0.3, -0.1, 0.2]]))
    assert table.error(0, np.array([7, 2, 7])) == pytest.approx(np.hypot(0.5, 0.1))


@settings(deadline=None, max_examples=50)
@given(case=cases(), seed=st.integers(0, 99))
def test_a_resample_is_worth_what_its_repeated_rows_are(case, seed):
    labels, scores, folds = case
    counts = np.random.default_rng(seed).integers(0, 3, (len(labels), 4)).astype(np.int32)
    values = folded_resamples(labels, scores, folds, counts)
    assert values.shape == (4, len(scores))
    paired = [c for c in range(labels.shape[1]) if not np.isnan(naive(labels[:, [c]], scores[0][:, [c]], folds))]
    for r in range(4):
        rows = np.repeat(np.arange(len(labels)), counts[:, r])
        for k, model in enumerate(scores):
            each = [naive(labels[rows][:, [c]], model[rows][:, [c]], folds[rows]) for c in paired]
            np.testing.assert_allclose(values[r, k], np.mean(each) if each else np.nan, rtol=1e-12)


def test_a_resample_of_every_row_once_has_the_value_of_the_rows(made):
    labels, scores, folds, _ = made
    values = folded_resamples(labels, scores, folds, np.ones((60, 1), dtype=np.int32))
    np.testing.assert_allclose(values[0], folded_auroc(labels, scores, folds).value, rtol=1e-12)


def test_a_resample_without_a_pair_of_one_category_has_no_value_and_spoils_no_other():
    labels = np.array([[1, 1], [0, 1], [np.nan, 0], [1, 0], [0, 0]])
    scores = np.arange(10.0).reshape(1, 5, 2)
    # The second resample has no positive of the first category in the one fold, and no negative of it in the other.
    counts = np.array([[1, 0], [1, 1], [1, 1], [1, 1], [1, 0]], dtype=np.int32)
    values = folded_resamples(labels, scores, [0, 0, 0, 1, 1], counts)
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[1]).all()


def test_one_row_a_class_and_fold_is_enough():
    rng = np.random.default_rng(0)
    labels, scores = np.tile([1.0, 0.0], 8), rng.normal(size=16)
    table = folded_auroc(labels[:, None], scores[None, :, None], np.repeat(np.arange(8), 2))
    assert table.value.item() == np.mean(scores[::2] > scores[1::2])
    assert table.value.item() != auroc(labels, scores)
