import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_cft.metrics import METRICS, auroc, average_precision, per_category

REFERENCE = {"auroc": roc_auc_score, "average_precision": average_precision_score}
both_metrics = pytest.mark.parametrize("name", ["auroc", "average_precision"])


@st.composite
def cases(draw, min_rows=2, max_columns=4):
    """Labels with both classes and some unknown, scores on a coarse grid so that ties abound."""
    rows = draw(st.integers(min_rows, 40))
    labels = draw(hnp.arrays(np.float64, rows, elements=st.sampled_from([0.0, 1.0, np.nan])))
    labels[draw(st.permutations(range(rows)))[:2]] = [0.0, 1.0]
    columns = draw(st.integers(1, max_columns))
    levels = draw(st.sampled_from([1, 3, 1000]))
    scores = draw(hnp.arrays(np.int64, (rows, columns), elements=st.integers(-levels, levels)))
    return labels, scores / 7


@both_metrics
@settings(deadline=None)
@given(case=cases(), dtype=st.sampled_from([np.float64, np.float32]), order=st.sampled_from("CF"))
def test_equals_scikit_learn_in_every_column_on_the_known_rows(name, case, dtype, order):
    labels, scores = case
    scores = np.array(scores, dtype=dtype, order=order)
    known = ~np.isnan(labels)
    expected = [REFERENCE[name](labels[known], column[known]) for column in scores.T]
    np.testing.assert_allclose(METRICS[name](labels, scores), expected, rtol=1e-12, atol=1e-15)
    assert METRICS[name](labels, scores[:, 0]) == pytest.approx(expected[0], rel=1e-12)


@both_metrics
@settings(deadline=None)
@given(case=cases(), data=st.data())
def test_whole_number_weights_equal_repeated_rows(name, case, data):
    labels, scores = case
    counts = data.draw(hnp.arrays(np.int64, (len(labels), 3), elements=st.integers(0, 3)))
    got = METRICS[name](labels, scores, counts)
    expected = [METRICS[name](np.repeat(labels, c), np.repeat(scores, c, axis=0)) for c in counts.T]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(METRICS[name](labels, scores, counts[:, 0]), expected[0], rtol=1e-12)


@both_metrics
@settings(deadline=None)
@given(case=cases(), seed=st.integers(0, 99))
def test_real_weights_equal_scikit_learns_sample_weights(name, case, seed):
    labels, scores = case
    weights = np.random.default_rng(seed).uniform(0.1, 2, len(labels))
    known = ~np.isnan(labels)
    expected = REFERENCE[name](labels[known], scores[known, 0], sample_weight=weights[known])
    assert METRICS[name](labels, scores[:, 0], weights) == pytest.approx(expected, rel=1e-9)


@both_metrics
@settings(deadline=None)
@given(case=cases())
def test_a_strictly_increasing_map_changes_nothing(name, case):
    labels, scores = case
    # The grid's values are at least 1/7 apart, so that neither map can round two of them together.
    for mapped in (scores * 1e6 + 3, np.arctan(scores / 10)):
        np.testing.assert_array_equal(METRICS[name](labels, mapped), METRICS[name](labels, scores))


@given(case=cases())
def test_auroc_of_the_reversed_ranking_and_of_swapped_labels_is_the_complement(case):
    labels, scores = case
    value = auroc(labels, scores)
    np.testing.assert_allclose(auroc(labels, -scores), 1 - value, rtol=0, atol=1e-15)
    np.testing.assert_allclose(auroc(1 - labels, scores), 1 - value, rtol=0, atol=1e-15)


def test_perfectly_ranked_large_logits_score_one():
    logits = np.array([17, 18, 19, 20, 21, 22], dtype=np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert auroc(labels, logits) == 1.0
    assert average_precision(labels, logits) == 1.0


def test_half_precision_is_ranked_like_its_exact_values():
    scores = np.array([0.1, 0.5, 0.5, 0.9], dtype=np.float16)
    assert auroc([0, 1, 0, 1], scores) == 0.875


def test_negative_and_positive_zero_are_a_tie():
    assert auroc([1, 0], [-0.0, 0.0]) == 0.5


@both_metrics
@pytest.mark.parametrize("labels", [[1, 1, np.nan], [0, 0, np.nan], [np.nan] * 3])
def test_without_both_classes_there_is_no_score(name, labels):
    assert np.isnan(METRICS[name](labels, [0.1, 0.2, 0.3]))
    assert np.isnan(METRICS[name](labels, np.zeros((3, 2)))).tolist() == [True, True]
    assert np.isnan(METRICS[name](labels, np.zeros((3, 2)), np.ones((3, 4)))).all()


@both_metrics
def test_a_weighting_that_leaves_out_a_class_has_no_score_and_spoils_no_other(name):
    values = METRICS[name]([1, 1, 0, 0], [4, 3, 2, 1], np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]]))
    np.testing.assert_array_equal(values, [1, np.nan, np.nan])


@both_metrics
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weights", [None, [1, 1, 1, 1]])
def test_a_score_that_is_not_finite_is_refused_where_the_label_is_known(name, bad, weights):
    for row in range(3):
        scores = np.array([0.1, 0.2, 0.3, 0.4])
        scores[row] = bad
        with pytest.raises(ValueError, match="scores must be finite"):
            METRICS[name]([1, 0, 1, np.nan], scores, weights)
    assert METRICS[name]([1, 0, 1, np.nan], [0.3, 0.1, 0.2, bad], weights) == 1.0


@both_metrics
@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([1, 0, -1], [1, 2, 3], None, "there is a -1: apply a policy first"),
        ([1, 0, 0.5], [1, 2, 3], None, "there is a 0.5"),
        ([1, 0], [1, 2, 3], None, r"their shapes are \(2,\) and \(3,\)"),
        ([[1, 0]], [[1, 2]], None, r"labels must be \(N,\)"),
        ([1, 0], ["a", "b"], None, "scores must be real numbers"),
        ([1, 0], [1, 2], [1, -1], "weights must be finite and not negative"),
        ([1, 0], [1, 2], [1, np.nan], "weights must be finite and not negative"),
        ([1, 0], [1, 2], [1, 1, 1], r"weights must be \(2,\) or \(2, R\), not \(3,\)"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(name, labels, scores, weights, message):
    with pytest.raises(ValueError, match=message):
        METRICS[name](labels, scores, weights)


@both_metrics
def test_scoring_leaves_its_arguments_as_they_were(name):
    labels, scores = np.array([1.0, 0, 1, 0]), np.array([[3.0], [1], [2], [4]])
    METRICS[name](labels, scores)
    METRICS[name](labels, scores, np.ones(4))
    assert labels.tolist() == [1, 0, 1, 0]
    assert scores.ravel().tolist() == [3, 1, 2, 4]


def test_per_category_scores_each_category_on_its_own_labels():
    rng = np.random.default_rng(0)
    labels = rng.choice([0.0, 1.0, np.nan], size=(30, 3))
    labels[:, 1] = 0
    models = rng.normal(size=(2, 30, 3))
    counts = rng.integers(0, 3, size=(30, 4))
    result = per_category(auroc, labels, models)
    assert result.shape == (2, 3)
    assert result[1, 2] == auroc(labels[:, 2], models[1, :, 2])
    assert np.isnan(result[:, 1]).all()
    np.testing.assert_array_equal(per_category(auroc, labels, models[0]), result[0])
    weighted = per_category(average_precision, labels, models, counts)
    assert weighted.shape == (4, 2, 3)
    assert weighted[3, 1, 0] == pytest.approx(average_precision(labels[:, 0], models[1, :, 0], counts[:, 3]), rel=1e-12)


def test_per_category_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"their shapes are \(3, 2\) and \(3, 4\)"):
        per_category(auroc, np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="no category"):
        per_category(auroc, np.zeros((3, 0)), np.zeros((3, 0)))
