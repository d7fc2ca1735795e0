import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_cft.metrics import (
    auroc,
    average_precision,
    bootstrap,
    bootstrap_auroc,
    bootstrap_average_precision,
    per_category,
    percentile_interval,
    resample_counts,
    resampling,
)


@pytest.fixture
def made():
    """Labels (60, 3) with unknowns, tying scores of two models (2, 60, 3), and 25 patients of several rows."""
    rng = np.random.default_rng(3)
    labels = rng.choice([0.0, 1.0, np.nan], size=(60, 3))
    scores = np.round(rng.normal(size=(2, 60, 3)) + np.nan_to_num(labels), 1)
    patients = np.array([f"patient{n:02}" for n in rng.integers(0, 25, 60)])
    return labels, scores, patients


def test_equals_a_naive_loop_over_the_same_resamples(made):
    labels, scores, patients = made
    result = bootstrap_auroc(labels, scores, patients, rng=np.random.default_rng(8), resamples=40)
    counts = resample_counts(patients, 40, np.random.default_rng(8))
    for r in range(40):
        rows = np.repeat(np.arange(60), counts[:, r])
        for model in range(2):
            for c in range(3):
                expected = auroc(labels[rows, c], scores[model, rows, c])
                np.testing.assert_allclose(result.samples[r, model, c], expected, rtol=1e-12)
    np.testing.assert_array_equal(result.estimate, per_category(auroc, labels, scores))
    np.testing.assert_allclose(result.low, np.quantile(result.samples, 0.025, axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.high, np.quantile(result.samples, 0.975, axis=0), rtol=1e-12)


def test_rows_of_a_patient_come_and_go_together(made):
    patients = made[2]
    counts = resample_counts(patients, 50, np.random.default_rng(0))
    names, first = np.unique(patients, return_index=True)
    for name, row in zip(names, first, strict=True):
        of_patient = counts[patients == name]
        assert (of_patient == of_patient[0]).all()
        assert (of_patient[0] == counts[row]).all()
    # As many patients are drawn as there are, each about once on average.
    assert (counts[first].sum(axis=0) == len(names)).all()
    assert counts[first].max() > 1
    assert counts[first].min() == 0


def test_patients_make_the_interval_wider_than_rows_taken_as_independent():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 40), 10)
    scores = labels + np.repeat(rng.normal(size=40), 10) + 0.01 * rng.normal(size=400)
    widths = []
    for groups in (np.repeat(np.arange(40), 10), np.arange(400)):
        result = bootstrap_auroc(labels[:, None], scores[:, None], groups, rng=np.random.default_rng(1), resamples=300)
        widths.append((result.high - result.low).item())
    assert widths[0] > 2 * widths[1]


def test_blocks_of_any_size_give_the_same_resamples(made, monkeypatch):
    labels, scores, patients = made

    def run():
        return bootstrap_auroc(labels, scores, patients, rng=np.random.default_rng(5), resamples=33)

    whole = run()
    assert resampling.BLOCK_CELLS // 60 > 33
    monkeypatch.setattr(resampling, "BLOCK_CELLS", 60 * 7)
    np.testing.assert_array_equal(run().samples, whole.samples)


@pytest.mark.parametrize("function", [bootstrap_auroc, bootstrap_average_precision])
def test_blocks_and_threads_of_any_number_give_the_same_numbers(function, made, monkeypatch):
    labels, scores, patients = made

    def run(threads=1):
        return function(labels, scores, patients, rng=np.random.default_rng(5), resamples=33, threads=threads).samples

    whole = run()
    assert resampling.BLOCK_RESAMPLES > 33
    np.testing.assert_array_equal(run(threads=3), whole)
    monkeypatch.setattr(resampling, "BLOCK_RESAMPLES", 7)
    np.testing.assert_allclose(run(), whole, rtol=1e-14)


def test_average_precision_equals_a_naive_loop_over_the_resamples_of_auroc(made):
    labels, scores, patients = made
    result = bootstrap_average_precision(labels, scores, patients, rng=np.random.default_rng(8), resamples=40)
    counts = resample_counts(patients, 40, np.random.default_rng(8))
    np.testing.assert_array_equal(result.estimate, per_category(average_precision, labels, scores))
    for r in range(40):
        for model in range(2):
            for c in range(3):
                known = ~np.isnan(labels[:, c])
                weights = counts[known, r]
                expected = average_precision_score(labels[known, c], scores[model, known, c], sample_weight=weights)
                np.testing.assert_allclose(result.samples[r, model, c], expected, rtol=1e-12)
    np.testing.assert_allclose(result.low, np.quantile(result.samples, 0.025, axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.high, np.quantile(result.samples, 0.975, axis=0), rtol=1e-12)


@pytest.mark.parametrize("positives", [40, 400, 1200, 1960])
@pytest.mark.parametrize("levels", [30, 10**6])
def test_thousands_of_studies_are_scored_as_scikit_learn_scores_them(positives, levels):
    rng = np.random.default_rng(positives)
    labels = rng.permutation(np.repeat([1.0, 0.0, np.nan], [positives, 2000 - positives, 100]))
    scores = np.round((rng.normal(size=2100) + np.nan_to_num(labels)) * levels / 10)
    patients = rng.integers(0, 1300, 2100)
    counts = resample_counts(patients, 3, np.random.default_rng(0))
    known = ~np.isnan(labels)
    for function, reference in (
        (bootstrap_auroc, roc_auc_score),
        (bootstrap_average_precision, average_precision_score),
    ):
        result = function(labels[:, None], scores[:, None], patients, rng=np.random.default_rng(0), resamples=3)
        for r in range(3):
            expected = reference(labels[known], scores[known], sample_weight=counts[known, r])
            assert result.samples[r, 0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("studies", "dtype"), [(2**14, np.float32), (2**14 + 1, np.float64)])
def test_counts_are_of_a_precision_that_holds_their_largest_sum(studies, dtype, monkeypatch):
    # Of 1,024 patients one has so many studies, who could be drawn 1,024 times; float32 counts to 2**24.
    patients = np.r_[np.zeros(studies, dtype=int), np.arange(1, 2**10)]
    labels, seen = np.arange(len(patients))[:, None] % 2, []

    def counted(*_):
        return lambda counts: seen.append(counts.dtype) or np.zeros(counts.shape[1])

    monkeypatch.setattr(resampling, "counted_auroc", counted)
    bootstrap_auroc(labels, labels, patients, rng=np.random.default_rng(1), resamples=2)
    assert seen == [dtype]


@pytest.mark.parametrize("function", [bootstrap_auroc, bootstrap_average_precision])
@pytest.mark.parametrize("label", [0, 1])
def test_a_resample_without_one_of_the_classes_has_no_value(function, label):
    labels = np.full(6, 1 - label)
    labels[2] = label
    scores = np.array([1, 5, 3, 2, 4, 0])
    result = function(labels[:, None], scores[:, None], np.arange(6), rng=np.random.default_rng(0), resamples=50)
    counts = resample_counts(np.arange(6), 50, np.random.default_rng(0))
    np.testing.assert_array_equal(np.isnan(result.samples[:, 0]), (counts[2] == 0) | (counts[2] == 6))
    assert np.isnan(result.low)


def test_perfect_separation_has_no_interval_by_resampling():
    labels = np.repeat([0, 1], 20)[:, None] * np.ones((1, 3))
    scores = np.column_stack([np.arange(40), -np.arange(40), np.arange(40) % 20])
    result = bootstrap_auroc(labels, scores, np.arange(40), rng=np.random.default_rng(0), resamples=50)
    assert result.estimate.tolist() == [1, 0, 0.5]
    assert np.isnan([result.low, result.high]).tolist() == [[True, True, False]] * 2
    precision = bootstrap_average_precision(labels, scores, np.arange(40), rng=np.random.default_rng(0), resamples=50)
    assert np.isnan([precision.low, precision.high]).tolist() == [[True, False, False]] * 2


def test_the_seed_decides(made):
    labels, scores, patients = made
    first, again, other = (
        bootstrap_auroc(labels, scores, patients, rng=np.random.default_rng(seed), resamples=20).samples.tobytes()
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_two_models_share_their_resamples(made):
    labels, scores, patients = made
    twice = np.stack([scores[0], scores[0] * 2 + 1])
    result = bootstrap_auroc(labels, twice, patients, rng=np.random.default_rng(0), resamples=100)
    low, high = percentile_interval(result.samples[:, 0] - result.samples[:, 1])
    assert low.tolist() == high.tolist() == [0, 0, 0]


def test_any_statistic_of_counts_can_be_resampled(made):
    labels, scores, patients = made
    result = bootstrap(
        lambda counts: average_precision(labels[:, 0], scores[0, :, 0], counts),
        patients,
        rng=np.random.default_rng(0),
        resamples=50,
        confidence=0.5,
    )
    assert result.estimate == average_precision(labels[:, 0], scores[0, :, 0])
    assert result.samples.shape == (50,)
    assert result.samples.min() < result.low < result.high < result.samples.max()


def test_a_category_that_most_resamples_miss_has_no_interval():
    labels = np.zeros((20, 2))
    labels[0, 0] = 1
    labels[:10, 1] = 1
    scores = np.arange(40).reshape(20, 2) % 7
    result = bootstrap_auroc(labels, scores, np.arange(20), rng=np.random.default_rng(0), resamples=200)
    # One positive of twenty is left out of a resample with probability (19/20)**20 = 0.36.
    assert 0.25 < np.isnan(result.samples[:, 0]).mean() < 0.47
    assert np.isfinite(result.estimate).all()
    assert np.isnan(result.low).tolist() == np.isnan(result.high).tolist() == [True, False]


@pytest.mark.parametrize(("undefined", "has_interval"), [(5, True), (6, False)])
def test_up_to_five_per_cent_without_a_value_are_left_out(undefined, has_interval):
    samples = np.arange(100.0)
    samples[:undefined] = np.nan
    low, high = percentile_interval(samples, 0.9)
    if has_interval:
        assert (low, high) == tuple(np.quantile(np.arange(5.0, 100.0), [0.05, 0.95]))
    else:
        assert np.isnan([low, high]).all()


def test_what_cannot_be_resampled_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="resamples must be at least 1"):
        resample_counts([1, 2], 0, rng)
    with pytest.raises(ValueError, match=r"groups must be \(N,\) with at least one row"):
        resample_counts([], 5, rng)
    with pytest.raises(ValueError, match="between 0 and 1, but it is 95"):
        bootstrap(lambda counts: counts[0], [1, 2], rng=rng, confidence=95)
    with pytest.raises(ValueError, match="at least one resample"):
        percentile_interval([])
    with pytest.raises(ValueError, match=r"groups must be \(3,\), but their shape is \(2,\)"):
        bootstrap_auroc(np.eye(3), np.eye(3), [1, 2], rng=rng)
