"""A metric by histogram is never further from the exact one than the error it states."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cxr_cft.metrics import METRICS
from cxr_cft.metrics.binned import BINNED, BINS, binned_auroc, binned_average_precision

both_metrics = pytest.mark.parametrize("name", ["auroc", "average_precision"])


def exact(name, positives, negatives):
    """(K,) by the exact metrics."""
    scores = np.concatenate([positives, negatives], axis=1).T
    labels = np.repeat([1.0, 0.0], [len(positives[0]), len(negatives[0])])
    return METRICS[name](labels, scores)


def binned(name, positives, negatives, bins=BINS):
    return BINNED[name](torch.from_numpy(np.array(positives)), torch.from_numpy(np.array(negatives)), bins)


@st.composite
def scores_of_both_classes(draw, kinds=(np.float32, np.float64)):
    """(K, P) and (K, Q) on a coarse grid so that ties abound, or anywhere."""
    rows, positives, negatives = draw(st.integers(1, 4)), draw(st.integers(1, 30)), draw(st.integers(1, 30))
    dtype = draw(st.sampled_from(kinds))
    width = 32 if dtype == np.float32 else 64
    elements = draw(
        st.sampled_from(
            [
                st.integers(-3, 3).map(float),
                st.integers(-1000, 1000).map(float),
                st.floats(-1e6, 1e6, width=width),
                st.floats(-1, 1, width=width),
            ]
        )
    )
    return tuple(draw(hnp.arrays(dtype, (rows, number), elements=elements)) for number in (positives, negatives))


@both_metrics
@settings(deadline=None)
@given(scores=scores_of_both_classes(), bins=st.sampled_from([1, 2, 7, 64, BINS]))
def test_the_exact_value_is_within_the_stated_error(name, scores, bins):
    value, error = binned(name, *scores, bins)
    assert (value.dtype, error.dtype) == (torch.float64, torch.float64)
    assert ((value >= 0) & (value <= 1) & (error >= 0)).all()
    assert (np.abs(exact(name, *scores) - value.numpy()) <= error.numpy() + 1e-12).all()


@both_metrics
@settings(deadline=None)
@given(seed=st.integers(0, 10_000), positives=st.integers(1, 30), negatives=st.integers(1, 30))
def test_it_is_exact_where_every_score_has_its_own_bin(name, seed, positives, negatives):
    # Different whole numbers from a range that is narrower than the bins are many.
    scores = np.random.default_rng(seed).permutation(500)[None, : positives + negatives].astype(np.float32)
    values = scores[:, :positives], scores[:, positives:]
    value, error = binned(name, *values)
    np.testing.assert_allclose(value, exact(name, *values), rtol=1e-12)
    np.testing.assert_allclose(error, 0, atol=0 if name == "auroc" else 1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), positives=st.integers(1, 30), negatives=st.integers(1, 30))
def test_auroc_is_that_of_the_bins_and_its_error_half_the_share_of_pairs_in_one(seed, positives, negatives):
    rng = np.random.default_rng(seed)
    places = [rng.integers(0, 9, (3, number)) for number in (positives, negatives)]
    for row in range(3):  # the range is of both classes together
        places[0][row, 0], places[1][row, 0] = rng.permutation([0, 8])
    # Somewhere in their bins, of which the last begins at the highest score.
    scores = [place + np.where(place < 8, rng.uniform(0.01, 0.99, place.shape), 0.01) - 0.01 for place in places]
    scores = [np.where(place == 0, 0, score) for place, score in zip(places, scores, strict=True)]
    value, error = binned("auroc", *scores, bins=9)
    np.testing.assert_allclose(value, exact("auroc", *places), rtol=1e-12)
    shared = (places[0][:, :, None] == places[1][:, None, :]).mean(axis=(1, 2))
    np.testing.assert_allclose(error, shared / 2, rtol=1e-12)


def test_a_case_worked_out_by_hand():
    # Bins of width 1 from 0 to 4: positives in bins 1, 1, 4, negatives in bins 0, 1, 3.
    positives, negatives = torch.tensor([[1.2, 1.4, 4.0]]), torch.tensor([[0.0, 1.6, 3.0]])
    area = binned_auroc(positives, negatives, bins=5)
    assert area.value.item() == pytest.approx((1.5 + 1.5 + 3) / 9)
    assert area.error.item() == pytest.approx(2 / 9 / 2)  # two of nine pairs share a bin
    precision = binned_average_precision(positives, negatives, bins=5)
    # In bin 4 the precision is 1; in bin 1 there are 3 positives and 2 negatives at or above.
    assert precision.value.item() == pytest.approx((1 + 2 * 3 / 5) / 3)
    # At best 3 of 4 there, at worst 2 of 4.
    assert precision.error.item() == pytest.approx(max(2 * (3 / 4 - 3 / 5), 2 * (3 / 5 - 2 / 4)) / 3)


@both_metrics
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
def test_any_real_dtype_will_do(name, dtype):
    rng = np.random.default_rng(0)
    positives, negatives = (torch.from_numpy(rng.integers(0, 50, (3, 40)) + shift).to(dtype) for shift in (9, 0))
    value, error = BINNED[name](positives, negatives)
    gap = np.abs(value.numpy() - exact(name, positives.double().numpy(), negatives.double().numpy()))
    assert (gap <= error.numpy() + 1e-12).all()
    assert (value > 0.55).all()


@both_metrics
@pytest.mark.parametrize(
    ("positives", "negatives"),
    [
        ([3e38, -1.0], [-3e38, 0.0]),  # the spread is beyond float32
        ([1e30, 2e30], [-1e30, 1.5e30]),
        ([1e-45, 0.0], [3e-45, 0.0]),  # the spread is below the smallest normal number
        ([1e-38, 0.0], [2e-38, 1.5e-38]),
        ([1000.0, np.nextafter(np.float32(1000), np.float32(2000))], [1000.0, 1000.0]),
        ([2.5, 2.5], [2.5, 2.5]),  # nothing but ties
        ([0.0], [-0.0]),
    ],
)
def test_the_error_holds_for_huge_for_tiny_and_for_no_spread(name, positives, negatives):
    scores = np.array([positives], np.float32), np.array([negatives], np.float32)
    value, error = binned(name, *scores)
    assert value.isfinite().all()
    assert error.isfinite().all()
    assert (np.abs(exact(name, *scores) - value.numpy()) <= error.numpy() + 1e-12).all()


def test_constant_scores_are_a_coin_toss_of_which_nothing_is_known():
    positives, negatives = torch.full((2, 3), 7.0), torch.full((2, 9), 7.0)
    assert binned_auroc(positives, negatives).value.tolist() == [0.5, 0.5]
    assert binned_auroc(positives, negatives).error.tolist() == [0.5, 0.5]
    assert binned_average_precision(positives, negatives).value.tolist() == [0.25, 0.25]


def test_an_outlier_costs_accuracy_and_the_error_says_so():
    rng = np.random.default_rng(0)
    positives, negatives = (rng.normal(shift, 1, (2, 500)).astype(np.float32) for shift in (1, 0))
    negatives[1, 0] = -1e6
    value, error = binned("auroc", positives, negatives)
    assert error[0] < 1e-3
    assert error[1] > 0.4
    assert (np.abs(exact("auroc", positives, negatives) - value.numpy()) <= error.numpy()).all()


@pytest.mark.parametrize(("name", "gap"), [("auroc", 2e-5), ("average_precision", 2e-4)])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_100_000_normal_scores_lose_next_to_nothing(name, gap, share):
    rng = np.random.default_rng(0)
    count = int(100_000 * share)
    positives, negatives = (
        rng.normal(shift, 1, (1, number)).astype(np.float32) for shift, number in ((1, count), (0, 100_000 - count))
    )
    value, error = binned(name, positives, negatives)
    np.testing.assert_allclose(value, exact(name, positives, negatives), rtol=0, atol=gap)
    assert error < 1e-3


@both_metrics
@settings(deadline=None)
@given(scores=scores_of_both_classes())
def test_several_rows_at_once_are_the_same_as_one_by_one(name, scores):
    together = binned(name, *scores, 64)
    alone = [binned(name, positives[None], negatives[None], 64) for positives, negatives in zip(*scores, strict=True)]
    assert together.value.tolist() == [one.value.item() for one in alone]
    assert together.error.tolist() == [one.error.item() for one in alone]


@both_metrics
def test_perfectly_ranked_large_logits_score_one(name):
    # In float32 the sigmoid of each is 1.
    value, error = binned(name, np.linspace(20, 22, 30, dtype=np.float32)[None], np.float32([[17, 18, 19]]))
    assert value.item() == 1
    assert error.item() < 1e-12


@both_metrics
def test_scoring_leaves_its_arguments_as_they_were(name):
    positives, negatives = torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    BINNED[name](positives, negatives)
    assert (positives.tolist(), negatives.tolist()) == ([[3.0, 1.0]], [[2.0, 0.0]])


def test_what_can_be_reported_can_be_searched_for():
    assert set(BINNED) == set(METRICS)
