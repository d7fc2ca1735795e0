"""Calibration against scikit-learn and against what can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from cxr_cft.metrics import brier, calibration_error, reliability


@st.composite
def cases(draw):
    """Labels with some unknown, probabilities on a coarse or a fine grid."""
    rows = draw(st.integers(1, 40))
    labels = draw(hnp.arrays(np.float64, rows, elements=st.sampled_from([0.0, 1.0, np.nan])))
    labels[draw(st.integers(0, rows - 1))] = draw(st.sampled_from([0.0, 1.0]))
    levels = draw(st.sampled_from([1, 4, 1024]))
    return labels, draw(hnp.arrays(np.int64, rows, elements=st.integers(0, levels))) / levels


@settings(deadline=None)
@given(case=cases(), seed=st.integers(0, 99))
def test_brier_score_is_scikit_learns_on_the_known_rows(case, seed):
    labels, probabilities = case
    known = ~np.isnan(labels)
    weights = np.random.default_rng(seed).uniform(0.1, 2, len(labels))
    expected = brier_score_loss(labels[known], probabilities[known], pos_label=1)
    assert brier(labels, probabilities) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    expected = brier_score_loss(labels[known], probabilities[known], sample_weight=weights[known], pos_label=1)
    assert brier(labels, probabilities, weights) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_bins_are_scikit_learns_quantiles(bins):
    rng = np.random.default_rng(bins)
    probabilities = rng.permutation(np.linspace(0.001, 0.999, 500)) ** 2
    labels = (rng.random(500) < probabilities).astype(float)
    result = reliability(labels, probabilities, bins)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=bins, strategy="quantile")
    np.testing.assert_allclose(result.predicted, predicted, rtol=1e-12)
    np.testing.assert_allclose(result.observed, observed, rtol=1e-12)
    assert result.counts.tolist() == [500 // bins] * bins


def test_a_case_worked_out_by_hand():
    # Two bins of three rows: means 0.2 and 0.8, one and two positives of three.
    labels, probabilities = [0, 1, 0, 1, 0, 1, np.nan], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 0.5]
    result = reliability(labels, probabilities, 2)
    np.testing.assert_allclose(result.predicted, [0.2, 0.8])
    np.testing.assert_allclose(result.observed, [1 / 3, 2 / 3])
    # Wilson's interval for one of three, from his formula.
    z = 1.959963984540054
    middle, half = (1 / 3 + z**2 / 6) / (1 + z**2 / 3), z / (1 + z**2 / 3) * np.sqrt(2 / 27 + z**2 / 36)
    np.testing.assert_allclose([result.low[0], result.high[0]], [middle - half, middle + half])
    np.testing.assert_allclose([result.low[1], result.high[1]], [1 - middle - half, 1 - middle + half])
    assert calibration_error(labels, probabilities, bins=2) == pytest.approx(2 / 15)
    assert calibration_error(labels, probabilities, bins=1) == pytest.approx(0)


@settings(deadline=None)
@given(case=cases(), bins=st.integers(1, 12))
def test_the_error_is_the_mean_gap_of_the_diagrams_bins(case, bins):
    labels, probabilities = case
    result = reliability(labels, probabilities, bins)
    gaps = np.abs(result.predicted - result.observed)
    expected = (gaps * result.counts).sum() / result.counts.sum()
    assert calibration_error(labels, probabilities, bins=bins) == pytest.approx(expected, abs=1e-12)
    assert result.counts.sum() == np.count_nonzero(~np.isnan(labels))
    assert (result.counts > 0).all()
    assert (np.diff(result.predicted) > 0).all()
    for n, share, low, high in zip(result.counts, result.observed, result.low, result.high, strict=True):
        interval = binomtest(round(share * n), n).proportion_ci(method="wilson")
        assert (low, high) == (interval.low, interval.high)


@given(case=cases(), bins=st.integers(1, 6))
def test_what_ties_is_in_one_bin_and_bins_are_of_equal_mass_but_for_that(case, bins):
    labels, probabilities = case
    known = np.sort(probabilities[~np.isnan(labels)])
    most = max(np.unique(known, return_counts=True)[1])
    assert reliability(labels, probabilities, bins).counts.max() < len(known) / bins + 1 + most
    constant = reliability(labels, np.full(len(labels), 0.25), bins)
    assert constant.counts.tolist() == [len(known)]


def test_what_lies_across_two_bins_is_in_that_of_its_middle():
    # Places: the middles of thirds. Of two bins the second begins at a half.
    assert reliability([0, 1, 1], [0.1, 0.2, 0.3], 2).counts.tolist() == [1, 2]
    # Four that tie, after one below them: from 1/6 to 5/6, the middle at a half.
    assert reliability([0, 1, 1, 0, 1, 0], [0.1, 0.2, 0.2, 0.2, 0.2, 0.3], 2).counts.tolist() == [1, 5]
    # After none below, and two above: the middle at a third.
    assert reliability([0, 1, 1, 0, 1, 0], [0.2, 0.2, 0.2, 0.2, 0.3, 0.4], 2).counts.tolist() == [4, 2]


@settings(deadline=None)
@given(case=cases(), data=st.data(), bins=st.integers(1, 6))
def test_whole_number_weights_equal_repeated_rows(case, data, bins):
    labels, probabilities = case
    counts = data.draw(hnp.arrays(np.int64, (len(labels), 3), elements=st.integers(0, 3)))
    for measure in (brier, lambda *args: calibration_error(*args, bins=bins)):
        expected = [measure(np.repeat(labels, c), np.repeat(probabilities, c)) for c in counts.T]
        np.testing.assert_allclose(measure(labels, probabilities, counts), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(measure(labels, probabilities, counts[:, 1]), expected[1], rtol=1e-9, atol=1e-12)


@given(case=cases(), seed=st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(case, seed):
    labels, probabilities = case
    order = np.random.default_rng(seed).permutation(len(labels))
    for measure in (brier, calibration_error):
        expected = measure(labels, probabilities)
        assert measure(labels[order], probabilities[order]) == pytest.approx(expected, abs=1e-12)


def test_several_columns_are_the_same_as_one_by_one():
    rng = np.random.default_rng(0)
    labels, columns, counts = rng.integers(0, 2, 50), rng.random((50, 3)), rng.integers(0, 3, (50, 4))
    for measure in (brier, calibration_error):
        assert measure(labels, columns).tolist() == pytest.approx([measure(labels, column) for column in columns.T])
        np.testing.assert_allclose(measure(labels, columns, counts)[:, 2], measure(labels, columns[:, 2], counts))


def test_true_probabilities_have_next_to_no_error_and_overconfident_ones_have():
    rng = np.random.default_rng(0)
    truth = rng.random(20_000)
    labels = (rng.random(20_000) < truth).astype(float)
    assert calibration_error(labels, truth) < 0.015
    # From truth to truth**2 the mean gap is the integral of t - t**2 over 0 to 1.
    assert calibration_error(labels, truth**2) == pytest.approx(1 / 6, abs=0.01)
    assert brier(labels, truth) == pytest.approx(1 / 6, abs=0.01)


def test_without_a_known_label_there_is_nothing():
    assert np.isnan(brier([np.nan], [0.5]))
    assert np.isnan(calibration_error([np.nan], [0.5]))
    assert np.isnan(calibration_error([1, 0], [0.5, 0.2], np.array([[0, 1], [0, 1]]))).tolist() == [True, False]
    assert all(len(column) == 0 for column in reliability([np.nan], [0.5]))


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, np.inf])
@pytest.mark.parametrize("function", [brier, calibration_error, reliability])
def test_what_is_no_probability_is_refused_where_the_label_is_known(function, bad):
    with pytest.raises(ValueError, match="probabilities must lie between 0 and 1"):
        function([0, 1], [0.5, bad])
    function([0, 1, np.nan], [0.5, 0.25, bad])


def test_other_shapes_and_no_bins_are_refused():
    with pytest.raises(ValueError, match=r"probabilities must be \(N,\)"):
        reliability([0, 1], [[0.5], [0.5]])
    for function in (reliability, calibration_error):
        with pytest.raises(ValueError, match="bins must be at least 1"):
            function([0, 1], [0.5, 0.5], bins=0)
