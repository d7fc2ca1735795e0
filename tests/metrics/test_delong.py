from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_cft.metrics import auroc, bootstrap_auroc, delong, delong_interval, mean_delong


def variance_by_definition(labels, scores):
    """DeLong, DeLong & Clarke-Pearson 1988 as written: the kernel over all pairs, O(nm)."""
    positives, negatives = scores[labels == 1], scores[labels == 0]
    kernel = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    by_positive, by_negative = kernel.mean(axis=1), kernel.mean(axis=0)
    area = kernel.mean()
    s10 = ((by_positive - area) ** 2).sum() / (len(positives) - 1)
    s01 = ((by_negative - area) ** 2).sum() / (len(negatives) - 1)
    return area, s10 / len(positives) + s01 / len(negatives)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(10, 60), levels=st.sampled_from([4, 1000]))
def test_interval_is_that_of_the_published_formula_on_the_logit_scale(seed, rows, levels):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0.0, 1.0, np.nan], rows, p=[0.5, 0.4, 0.1])
    labels[:4] = [0, 0, 1, 1]
    scores = rng.integers(0, levels, rows) + 0.3 * levels * np.nan_to_num(labels)
    area, variance = variance_by_definition(labels, scores)
    got, low, high = delong_interval(labels, scores)
    assert got == auroc(labels, scores) == pytest.approx(area, rel=1e-12)
    if 0 < area < 1:
        half = 1.959963984540054 * np.sqrt(variance) / (area * (1 - area))
        middle = np.log(area / (1 - area))
        assert low == pytest.approx(1 / (1 + np.exp(half - middle)), rel=1e-9)
        assert high == pytest.approx(1 / (1 + np.exp(-half - middle)), rel=1e-9)


def test_a_case_small_enough_for_pencil_and_paper():
    # Positives 2 and 4 against negatives 1 and 3: three of four pairs won, components (1/2, 1) and (1, 1/2),
    # so that each variance is 1/8 and the AUROC's 1/16 + 1/16.
    area, low, high = delong_interval([0, 1, 0, 1], [1, 2, 3, 4])
    assert area == 0.75
    half = 1.959963984540054 * np.sqrt(1 / 8) / (3 / 16)
    assert np.log(low / (1 - low)) == pytest.approx(np.log(3) - half)
    assert np.log(high / (1 - high)) == pytest.approx(np.log(3) + half)


def test_the_interval_covers_about_as_often_as_it_says():
    # Normal scores one apart: the true AUROC is Phi(1 / sqrt 2) = 0.76025.
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [60, 40])
    covered = 0
    for _ in range(400):
        _, low, high = delong_interval(labels, rng.normal(size=100) + labels, confidence=0.9)
        covered += low <= 0.76025 <= high
    assert 0.86 <= covered / 400 <= 0.94


def test_a_higher_confidence_is_a_wider_interval_within_zero_and_one():
    labels, scores = np.arange(20) % 2, np.r_[np.arange(10), np.arange(12, 22)] * (1 + 5 * (np.arange(20) % 2))
    _, low, high = delong_interval(labels, scores, 0.8)
    _, lower, higher = delong_interval(labels, scores, 0.999)
    assert 0 < lower < low < high < higher < 1


def test_perfect_separation_is_no_certainty():
    labels = np.r_[np.zeros(50), np.ones(10)]
    area, low, high = delong_interval(labels, np.arange(60))
    assert (area, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 10))
    area, low, high = delong_interval(labels, -np.arange(60))
    assert (area, low) == (0.0, 0.0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 10))


@pytest.mark.parametrize("labels", [[1, 0, 0, 0], [0, 1, 1, 1]])
def test_one_case_of_a_class_has_a_score_but_no_interval(labels):
    area, low, high = delong_interval(labels, [2, 1, 3, 1])
    assert area == auroc(labels, [2, 1, 3, 1])
    assert np.isnan([low, high]).all()


def test_without_both_classes_all_is_nan():
    assert np.isnan(delong_interval([1, 1, np.nan], [1, 2, 3])).all()


def test_the_same_score_everywhere_is_a_coin_toss_on_any_rows():
    assert delong_interval([0, 1, 0, 1], [2, 2, 2, 2]) == (0.5, 0.5, 0.5)


def test_refuses_a_confidence_in_per_cent_and_several_columns():
    with pytest.raises(ValueError, match="between 0 and 1, but it is 95"):
        delong_interval([0, 1], [1, 2], 95)
    with pytest.raises(ValueError, match=r"scores must be \(N,\)"):
        delong_interval([0, 1], [[1], [2]])


# 113 patients with a haemorrhage (Turck et al., Intensive Care Medicine 2010), the example of the R package pROC (Robin
# et al., BMC Bioinformatics 2011): outcome, a grade of five levels, two markers. The numbers are those that pROC's own
# tests expect of auc, var, cov and roc.test.
ASAH = np.loadtxt(Path(__file__).with_name("asah.csv"), delimiter=",", skiprows=1)


def test_auroc_and_covariance_of_a_published_example_are_those_of_proc():
    result = delong(ASAH[:, 0], ASAH[:, 1:])
    np.testing.assert_allclose(result.auroc, [0.8236788617886179, 0.7313685636856369, 0.6119579945799458], rtol=1e-13)
    expected = [
        [0.00146991470882363, 0.00119615567376754, -0.000532967856762438],
        [0.00119615567376754, 0.00266868245717244, -0.000756164938056579],
        [-0.000532967856762438, -0.000756164938056579, 0.0031908105493913],
    ]
    np.testing.assert_allclose(result.covariance, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "low", "high", "p"),
    [
        (0, 1, 0.0104061769564846, 0.174214419249478, 0.0271757822291882),
        (0, 2, 0.0634011709339876, 0.3600405634833566, 0.00514557970691098),
        (2, 1, -0.2876917446341914, 0.0488706064228094, 0.164295175223054),
    ],
)
def test_paired_differences_of_a_published_example_are_those_of_proc(first, second, low, high, p):
    result = delong(ASAH[:, 0], ASAH[:, 1:])
    difference = result.difference(first, second)
    assert difference.value == result.auroc[first] - result.auroc[second]
    assert difference[1:] == pytest.approx((low, high, p), rel=1e-11)
    assert result.difference(second, first)[1:] == pytest.approx((-high, -low, p), rel=1e-11)


def test_the_standard_error_of_hanley_and_mcneils_ratings_is_the_published_one():
    # 109 CT images in five ratings (Radiology 1982, table I): AUROC 0.893, and 0.0307 by DeLong in Stata's manual.
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    scores = np.repeat(np.tile(np.arange(5), 2), normal + abnormal)
    result = delong(np.repeat([0, 1], [sum(normal), sum(abnormal)]), scores[:, None])
    assert result.auroc[0] == pytest.approx(0.8932, abs=5e-5)
    assert np.sqrt(result.covariance[0, 0]) == pytest.approx(0.0307, abs=5e-5)


def components(labels, scores):
    """DeLong's structural components by the kernel over all pairs, O(PQ): (P,), (Q,) and their mean."""
    positives, negatives = scores[labels == 1], scores[labels == 0]
    kernel = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    return kernel.mean(axis=1), kernel.mean(axis=0), kernel.mean()


def covariance_by_definition(labels, first, second):
    """DeLong et al. 1988, equations 5 and 6, of two columns."""
    total = 0
    for own, other in zip(components(labels, first)[:2], components(labels, second)[:2], strict=True):
        total += np.cov(own, other)[0, 1] / len(own)
    return total


def clustered_variance_by_definition(labels, scores, groups):
    """Obuchowski 1997, equation 2, as written."""
    by_positive, by_negative, area = components(labels, scores)
    names = np.unique(groups[~np.isnan(labels)])
    above = np.array([(by_positive - area)[groups[labels == 1] == name].sum() for name in names])
    below = np.array([(by_negative - area)[groups[labels == 0] == name].sum() for name in names])
    both = len(names) / (len(names) - 1)
    with_positive, with_negative = (len(np.unique(groups[labels == label])) for label in (1, 0))
    m, n = len(by_positive), len(by_negative)
    s10 = with_positive / ((with_positive - 1) * m) * (above**2).sum()
    s01 = with_negative / ((with_negative - 1) * n) * (below**2).sum()
    s11 = both * (above * below).sum()
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(10, 60), levels=st.sampled_from([3, 1000]))
def test_covariance_is_that_of_the_published_formula(seed, rows, levels):
    labels, scores, _ = made(seed, rows, levels)
    result = delong(labels, scores)
    for a in range(3):
        for b in range(3):
            expected = covariance_by_definition(labels, scores[:, a], scores[:, b])
            assert result.covariance[a, b] == pytest.approx(expected, rel=1e-9, abs=1e-15)


def made(seed, rows, levels=1000, patients=None):
    """Labels (rows,) with unknowns and two of each class at least, scores of three columns, patients (rows,)."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0.0, 1.0, np.nan], rows, p=[0.5, 0.4, 0.1])
    labels[:4] = [0, 0, 1, 1]
    scores = rng.integers(0, levels, (rows, 3)) + 0.3 * levels * np.nan_to_num(labels)[:, None]
    groups = rng.integers(0, patients or rows, rows)
    groups[:4] = [0, 1, 2, 3]
    return labels, scores, groups


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(40, 120))
def test_variance_with_patients_is_obuchowskis_but_for_a_correction_of_the_cross_term(seed, rows):
    labels, scores, groups = made(seed, rows, patients=rows // 2)
    got = delong(labels, scores, groups).covariance[0, 0]
    # The correction is n / (n - 1) of other numbers of patients, which bounds what it can change.
    number = min(len(np.unique(groups[labels == label])) for label in (0, 1))
    assert got == pytest.approx(clustered_variance_by_definition(labels, scores[:, 0], groups), rel=2 / number)


@given(seed=st.integers(0, 10_000), rows=st.integers(10, 60))
def test_patients_of_one_row_each_change_nothing_and_neither_does_the_order_of_rows(seed, rows):
    labels, scores, _ = made(seed, rows)
    plain = delong(labels, scores)
    names = np.array([f"patient{n}" for n in np.random.default_rng(seed).permutation(rows)])
    np.testing.assert_allclose(delong(labels, scores, names).covariance, plain.covariance, rtol=1e-9, atol=1e-16)
    order = np.random.default_rng(seed).permutation(rows)
    shuffled = delong(labels[order], scores[order], names[order])
    np.testing.assert_allclose(shuffled.parts, delong(labels, scores, names).parts, atol=1e-15)


@given(seed=st.integers(0, 10_000))
def test_a_strictly_increasing_map_of_a_column_changes_nothing(seed):
    labels, scores, groups = made(seed, 40, 30, patients=20)
    mapped = np.column_stack([scores[:, 0] ** 3, np.exp(scores[:, 1] / 20), scores[:, 2] - 5])
    np.testing.assert_array_equal(delong(labels, mapped, groups).parts, delong(labels, scores, groups).parts)


@given(seed=st.integers(0, 10_000), times=st.integers(2, 4))
def test_a_study_counted_several_times_over_tells_nothing_new_if_the_patient_is_known(seed, times):
    labels, scores, _ = made(seed, 30)
    again = np.tile(np.arange(30), times)
    once, known = delong(labels, scores), delong(labels[again], scores[again], again)
    np.testing.assert_allclose(known.covariance, once.covariance, rtol=1e-9, atol=1e-16)
    unknown = delong(labels[again], scores[again])
    assert (np.diag(unknown.covariance) <= np.diag(once.covariance) / times + 1e-15).all()


def test_variance_with_patients_is_what_resampling_patients_gives():
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(300), rng.integers(1, 6, 300))
    # A patient's studies share their findings and what the models make of them.
    labels = (rng.normal(size=300)[patients] + 0.5 * rng.normal(size=len(patients)) > 0.5).astype(float)
    common = rng.normal(size=300)[patients]
    models = [labels + common + 0.5 * rng.normal(size=len(patients)) for _ in range(2)]
    result = delong(labels, np.column_stack(models), patients)
    samples = bootstrap_auroc(
        labels[:, None], np.array(models)[:, :, None], patients, rng=np.random.default_rng(0), resamples=2000
    ).samples[..., 0]
    np.testing.assert_allclose(np.cov(samples.T), result.covariance, rtol=0.1)
    # Rows taken as independent would make the interval too narrow by far.
    assert (np.diag(delong(labels, np.column_stack(models)).covariance) < 0.75 * np.diag(result.covariance)).all()


def test_a_mean_over_categories_moves_as_resampling_patients_moves_it():
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(250), rng.integers(1, 4, 250))
    rows = len(patients)
    severity = rng.normal(size=250)[patients]
    labels = (severity[:, None] + rng.normal(size=(rows, 3)) > 0.5).astype(float)
    labels[rng.random((rows, 3)) < 0.2] = np.nan
    scores = np.nan_to_num(labels) + rng.normal(size=(2, rows, 3)) + 0.5 * severity[:, None]
    mean = mean_delong([delong(labels[:, c], scores[:, :, c].T, patients) for c in range(3)])
    samples = bootstrap_auroc(labels, scores, patients, rng=np.random.default_rng(1), resamples=2000)
    np.testing.assert_allclose(mean.auroc, samples.estimate.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(np.cov(samples.samples.mean(axis=2).T), mean.covariance, rtol=0.1, atol=2e-5)
    with pytest.raises(ValueError, match="no AUROC to average"):
        mean_delong([])


def test_under_the_null_the_p_value_is_below_five_per_cent_as_often_as_it_says():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [60, 40])
    found = [delong(labels, labels[:, None] + rng.normal(size=(100, 2))).difference(0, 1).p < 0.05 for _ in range(600)]
    assert 0.03 <= np.mean(found) <= 0.075


def test_a_column_does_not_differ_from_itself_or_from_what_ranks_alike():
    labels, scores, groups = made(0, 40, patients=15)
    twice = np.column_stack([scores[:, 0], scores[:, 0] * 7 + 1])
    assert delong(labels, twice, groups).difference(0, 1) == (0, 0, 0, 1)


def test_the_difference_of_two_perfect_columns_is_no_certainty():
    labels = np.repeat([0, 1], 5)
    scores = np.column_stack([np.arange(10), np.r_[4, 3, 2, 1, 0, 9, 8, 7, 6, 5], -np.arange(10), np.zeros(10)])
    result = delong(labels, scores)
    for second, value in ((1, 0), (2, 1), (3, 0.5)):
        difference = result.difference(0, second)
        assert difference.value == value
        assert np.isnan(difference[1:]).all()


def test_one_patient_with_the_only_positives_has_no_interval_and_no_p():
    labels, groups = np.array([1, 1, 0, 0, 0]), np.array([7, 7, 1, 2, 3])
    scores = np.column_stack([[3, 1, 2, 0, 0], [3, 4, 2, 5, 0]])
    result = delong(labels, scores, groups)
    np.testing.assert_array_equal(result.auroc, auroc(labels, scores))
    assert np.isnan(result.covariance).all()
    assert np.isnan(result.interval(0)).all()
    assert np.isnan(result.difference(0, 1)[1:]).all()
    assert result.difference(0, 1).value == result.auroc[0] - result.auroc[1]


def test_perfect_separation_rests_on_as_many_wins_as_patients_make_pairs():
    # Three patients with a positive, four with a negative, five in all: two pairs share no patient.
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    groups = np.array(["a", "b", "c", "d", "c", "d", "e"])
    assert delong(labels, np.arange(7)[:, None], groups).interval(0) == pytest.approx((0.025 ** (1 / 2), 1))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"scores must be \(N, M\)"):
        delong([0, 1], [1, 2])
    with pytest.raises(ValueError, match=r"groups must be \(2,\), but their shape is \(3,\)"):
        delong([0, 1], [[1], [2]], [1, 2, 3])
    with pytest.raises(ValueError, match="between 0 and 1, but it is 95"):
        delong([0, 1, 1, 0], np.ones((4, 2))).difference(0, 1, 95)
    with pytest.raises(ValueError, match="between 0 and 1, but it is 0"):
        delong([0, 1, 1, 0], np.ones((4, 2))).interval(0, 0)
