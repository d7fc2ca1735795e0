"""Members' scores become one probability, finite for all that a member may write."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_cft.data.odds import expit, logit
from cxr_cft.ensemble.blend import TAIL, blend_scores, on_scale, scale_logit, to_scale, weighted

CURVE = {"logit": False, "x": [1.0, 2.0, 4.0], "y": [0.0, 0.5, 0.6]}


def line(slope=1.0, intercept=0.0, *, logits=True, edge=0.0):
    return {"logit": logits, "edge": edge, "slope": slope, "intercept": intercept}


def one(*values):
    """Scores (M, 1, 1) of one study and one category."""
    return np.array(values, dtype=np.float64)[:, None, None]


def blend(scores, weights, scales, slope=1.0, intercept=0.0):
    """Of one category: weights and scales (M,)."""
    scores = np.asarray(scores, dtype=np.float64)
    out = np.array([slope], dtype=np.float64), np.array([intercept], dtype=np.float64)
    return blend_scores(scores, np.array(weights, dtype=np.float64)[:, None], [[scale] for scale in scales], *out)[:, 0]


def test_a_blend_worked_out_by_hand():
    # Logits −1 and 2 become (−1 − 1)/2 = −1 and 2/4 = 0.5; under ¾ and ¼ their mean is −0.625, and −0.625·2.5 + 0.75.
    scores = one(1 / (1 + np.e), 1 / (1 + np.exp(-2)))
    blended = blend(scores, [0.75, 0.25], [line(0.5, -0.5), line(0.25)], 2.5, 0.75)
    assert blended.item() == pytest.approx(1 / (1 + np.exp(0.8125)))


def test_scores_of_another_tool_are_taken_as_they_are():
    # 2.8·2.5 − 5 = 2 and logit(½) = 0 → 0 − 1; their mean is 0.5.
    blended = blend(one(2.8, 0.5), [0.5, 0.5], [line(2.5, -5, logits=False), line(1, -1)])
    assert blended.item() == pytest.approx(1 / (1 + np.exp(-0.5)))


def test_a_curve_is_straight_between_its_knots():
    np.testing.assert_allclose(on_scale(np.array([1, 1.5, 2, 3, 4]), CURVE), [0, 0.25, 0.5, 0.55, 0.6], rtol=1e-12)


def test_a_curve_rises_ever_more_slowly_beyond_its_ends():
    # One width beyond, half of the tail is used up; it is a hundredth of the curve's height.
    beyond = on_scale(np.array([7, 1e9, -2, -1e9]), CURVE)
    expected = [0.6 + 0.003, 0.6 + 0.006, -0.003, -0.006]
    np.testing.assert_allclose(beyond, expected, atol=1e-9)
    z = on_scale(np.concatenate([-np.logspace(6, -9, 100), np.linspace(0, 5, 101), np.logspace(0.7, 6, 100)]), CURVE)
    assert (np.diff(z) > 0).all()
    assert TAIL == 0.01


def test_a_blend_of_a_curve_and_a_line():
    blended = blend(one(1.5, 0.5), [0.5, 0.5], [CURVE, line(1, 1)], 2, 0)
    assert blended.item() == pytest.approx(1 / (1 + np.exp(-1.25)))


def test_one_member_of_probabilities_comes_back_as_it_was(rng):
    scores = rng.random((1, 50, 3))
    blended = blend_scores(scores, np.ones((1, 3)), [[line()] * 3], np.ones(3), np.zeros(3))
    np.testing.assert_allclose(blended, scores[0], rtol=1e-12)


def test_an_exact_0_or_1_counts_as_the_members_edge():
    scores = np.array([[0], [0.25], [0.5], [1]])[None]
    np.testing.assert_allclose(blend(scores, [1], [line(edge=0.1)]), [0.1, 0.3, 0.5, 0.9], rtol=1e-12)
    np.testing.assert_allclose(blend(scores, [1], [line()]), [0, 0.25, 0.5, 1], atol=1e-14)
    without = {"logit": True, "slope": 1.0, "intercept": 0.0}
    np.testing.assert_array_equal(blend(scores, [1], [without]), blend(scores, [1], [line()]))


def test_edges_of_many_members_apply_to_each():
    scores, edges = np.array([[[0.0], [0.5]], [[1.0], [0.25]]]), np.array([[0.1], [0.2]])
    expected = [[[0.1], [0.5]], [[0.8], [0.35]]]
    np.testing.assert_allclose(scale_logit(scores, edges[:, None]), logit(np.array(expected)), atol=1e-12)


def test_a_member_without_a_study_leaves_it_to_the_others():
    scales = [line(1, -0.5), line(0.5, 0.5), line(1 / 3, -2 / 3)]
    scores = np.array([[[0.2], [np.nan], [np.nan]], [[0.6], [0.6], [np.nan]], [[0.9], [0.9], [np.nan]]])
    blended = blend(scores, [0.2, 0.3, 0.5], scales)
    z = 0.375 * (logit(0.6) / 2 + 0.5) + 0.625 * (logit(0.9) - 2) / 3
    assert blended[1] == pytest.approx(1 / (1 + np.exp(-z)))
    assert np.isfinite(blended[0])
    assert np.isnan(blended[2])


def test_a_member_without_a_category_leaves_it_to_the_others(rng):
    scores = rng.random((2, 6, 2))
    blended = blend_scores(scores, np.full((2, 2), 0.5), [[line(), line()], [line(2), None]], np.ones(2), np.zeros(2))
    np.testing.assert_allclose(blended[:, 1], scores[0, :, 1], rtol=1e-12)
    np.testing.assert_allclose(blended[:, 0], expit(logit(scores[0, :, 0]) / 2 + logit(scores[1, :, 0])), rtol=1e-12)
    z = to_scale(scores, [[line(), line()], [line(2), None]])
    assert np.isnan(z).tolist() == [[[False] * 2] * 6, [[False, True]] * 6]


@pytest.mark.parametrize("filler", [np.nan, 0.0, 1.0, 1e30])
def test_a_member_without_weight_changes_nothing_not_even_by_a_nan(rng, filler):
    scores = rng.random((2, 20, 1))
    with_third = np.concatenate([scores, rng.random((1, 20, 1))])
    with_third[2, ::3] = filler
    scales = [line(), line(0.5, -0.5)]
    for third in (line(9, 9), CURVE, None):
        together = blend(with_third, [0.5, 0.5, 0], [*scales, third])
        np.testing.assert_array_equal(together, blend(scores, [0.5, 0.5], scales))
    only_third = np.where(np.arange(3)[:, None, None] < 2, np.nan, rng.random((3, 20, 1)))
    assert np.isnan(blend(only_third, [0.5, 0.5, 0], [*scales, line()])).all()


def test_only_the_relation_of_weights_counts(rng):
    scores, scales = rng.random((3, 20, 1)), [line(), line(0.5, 1), CURVE]
    np.testing.assert_allclose(blend(scores, [0.2, 0.3, 0.5], scales), blend(scores, [4, 6, 10], scales), rtol=1e-12)


def test_categories_do_not_mix(rng):
    scores, weights = rng.random((2, 10, 3)), rng.random((2, 3))
    scales = [[line(), line(2, 1), CURVE], [line(logits=False), None, line(3)]]
    slope, intercept = rng.random(3) + 0.5, rng.normal(size=3)
    together = blend_scores(scores, weights, scales, slope, intercept)
    for c in range(3):
        alone = blend_scores(
            scores[:, :, [c]], weights[:, [c]], [[row[c]] for row in scales], slope[[c]], intercept[[c]]
        )
        np.testing.assert_allclose(together[:, [c]], alone, rtol=1e-12)


def test_a_weighted_mean_is_numpys_average_of_what_is_there(rng):
    z, weights = rng.normal(size=(4, 30, 2)), rng.random((4, 2))
    z[rng.random(z.shape) < 0.3] = np.nan
    expected = [
        [np.average(z[~np.isnan(z[:, s, c]), s, c], weights=weights[~np.isnan(z[:, s, c]), c]) for c in range(2)]
        for s in range(30)
        if not np.isnan(z[:, s]).all(axis=0).any()
    ]
    some = ~np.isnan(z).all(axis=0).any(axis=1)
    np.testing.assert_allclose(weighted(z, weights)[some], expected, rtol=1e-12)
    assert np.isnan(weighted(z, np.zeros((4, 2)))).all()


def test_scales_may_come_from_json(rng):
    scores, scales = rng.random((2, 30, 1)), [line(0.7, 0.1, edge=0.003), CURVE]
    stored = json.loads(json.dumps(scales))
    assert blend(scores, [0.3, 0.7], stored).tobytes() == blend(scores, [0.3, 0.7], scales).tobytes()


def test_arguments_are_left_as_they_were(rng):
    scores, weights = rng.random((2, 10, 1)), [0.3, 0.7]
    scores[0, 3] = np.nan
    before = scores.tobytes()
    blend(scores, weights, [line(edge=0.1), CURVE])
    assert scores.tobytes() == before


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-300, 5e-324, 1 - 2**-53, -1e30, 1e30, 1e300, -1e300])
@pytest.mark.parametrize("scale", [line(), line(2, -1, edge=0.1), CURVE, line(1e-30, 1, logits=False)])
def test_whatever_a_member_writes_the_blend_is_a_probability(value, scale):
    blended = blend(one(value, 0.5), [0.9, 0.1], [scale, line()], 2.0, -1.0).item()
    assert 0 <= blended <= 1


@settings(deadline=None)
@given(
    ranks=st.lists(st.integers(0, 1000), min_size=2, max_size=30),
    weight=st.floats(0, 1),
    slope=st.floats(0.01, 10),
    edge=st.sampled_from([0.0, 1e-6, 0.01, 0.25]),
)
def test_a_blend_is_a_probability_and_keeps_the_order_that_members_agree_on(ranks, weight, slope, edge):
    x = np.sort(ranks) / 1000
    scores = np.array([x, x**2, 4 * x])[:, :, None]
    blended = blend(scores, [weight, 1 - weight, 0.5], [line(0.3, 2, edge=edge), line(1 / 3), CURVE], slope, -1)
    assert ((blended >= 0) & (blended <= 1)).all()
    # Studies that score the same get the same; others differ by more than the rounding of any step.
    assert (np.diff(blended)[np.diff(x) == 0] == 0).all()
    z = logit(blended)
    assert (np.diff(z)[(np.diff(x) > 0) & (np.abs(z[1:]) < 15) & (np.abs(z[:-1]) < 15)] > 0).all()
    assert (np.diff(blended) >= 0).all()
