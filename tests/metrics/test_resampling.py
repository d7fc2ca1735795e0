import numpy as np
import pytest

from cxr_cft.metrics import (
    auroc,
    average_precision,
    bootstrap,
    bootstrap_auroc,
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
    with pytest.raises(ValueError, match=r"weights must be \(3,\) or \(3, R\), not \(2, 1\)"):
        bootstrap_auroc(np.eye(3), np.eye(3), [1, 2], rng=rng)
