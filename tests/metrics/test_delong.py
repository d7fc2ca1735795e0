import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_cft.metrics import auroc, delong_interval


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
