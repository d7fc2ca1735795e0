"""P-values: of paired resamples, and of several comparisons at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from cxr_cft.metrics import bootstrap_auroc, bootstrap_p, holm, percentile_interval


def test_p_is_twice_the_share_of_resamples_on_the_rarer_side_of_zero():
    assert bootstrap_p([-1, 1, 2, 3, 4, 5, 6, 7, 8]) == 2 * (1 + 1) / (9 + 1)
    assert bootstrap_p([1, -1, -2, -3, -4, -5, -6, -7, -8]) == 2 * (1 + 1) / (9 + 1)
    assert bootstrap_p([0, 0, 1, 2, 3, 4, 5, 6, 7]) == 2 * (2 + 1) / (9 + 1)


def test_p_has_a_floor_and_is_one_where_nothing_differs():
    assert bootstrap_p(np.ones(999)) == 2 / 1000
    assert bootstrap_p(np.zeros(999)) == 1
    assert bootstrap_p([-1, 1]) == 1


@given(seed=st.integers(0, 1000))
def test_p_is_below_five_per_cent_about_where_the_interval_leaves_zero_out(seed):
    rng = np.random.default_rng(seed)
    samples = rng.normal(rng.uniform(-4, 4), 1, 1000)
    low, high = percentile_interval(samples)
    p = bootstrap_p(samples)
    if low > 0 or high < 0:
        assert p < 0.054
    else:
        assert p > 0.046


def test_p_leaves_out_up_to_five_per_cent_of_undefined_resamples():
    samples = np.r_[np.full(5, np.nan), np.ones(95)]
    assert bootstrap_p(samples) == 2 / 96
    samples[5] = np.nan
    assert np.isnan(bootstrap_p(samples))


def test_under_the_null_p_is_uniform():
    # Two models of equal worth that share half of their noise, 60 patients of two studies each.
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 2)
    values = []
    for _ in range(200):
        labels = np.repeat(rng.permutation(np.arange(60) % 2), 2)[:, None].astype(float)
        shared = rng.normal(size=(120, 1))
        models = labels + shared + rng.normal(size=(2, 120, 1)) + rng.normal(size=(2, 60, 1))[:, patients]
        samples = bootstrap_auroc(labels, models, patients, rng=rng, resamples=200).samples[..., 0]
        values.append(bootstrap_p(samples[:, 0] - samples[:, 1]))
    assert kstest(values, "uniform").pvalue > 0.05
    assert 0.01 <= np.mean(np.array(values) < 0.05) <= 0.1


def test_holm_as_worked_out_by_hand():
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (no less than the one before), 0.04 x 1 (likewise).
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1, 1])
    assert holm([]).shape == (0,)


def test_holm_counts_no_comparison_without_a_p():
    np.testing.assert_allclose(holm([np.nan, 0.01, np.nan, 0.02]), [np.nan, 0.02, np.nan, 0.02])
    assert np.isnan(holm([np.nan])).all()


probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(p=probabilities, seed=st.integers(0, 100))
def test_holm_lies_between_the_values_and_bonferronis_in_their_order(p, seed):
    p = np.array(p)
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(p * len(p), 1)).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
    order = np.random.default_rng(seed).permutation(len(p))
    np.testing.assert_array_equal(holm(p[order]), corrected[order])


def test_what_is_no_p_or_no_sample_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match=r"p-values must be \(K,\)"):
        holm([[0.5]])
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_p([])
    with pytest.raises(ValueError, match=r"\(R,\) resamples"):
        bootstrap_p(np.ones((3, 2)))
