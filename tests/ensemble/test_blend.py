"""Members' scores become one probability, finite for all that a member may write."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_cft.ensemble.blend import blend_scores, standardise


def one(*values):
    """Scores (M, 1, 1) of one study and one category."""
    return np.array(values, dtype=np.float64)[:, None, None]


def scale(probability, center, spread):
    """A scale (M, 1) a member."""
    return tuple(np.array(part)[:, None] for part in (probability, center, spread))


def test_a_blend_worked_out_by_hand():
    # Logits −1 and 2; standardised (−1 − 1)/2 = −1 and (2 − 0)/4 = 0.5. Their mean under ¾ and ¼ is −0.625, and the
    # scale that they lend has the centre ¾·1 + ¼·0 = 0.75 and the spread ¾·2 + ¼·4 = 2.5: −0.625·2.5 + 0.75 = −0.8125.
    scores = one(1 / (1 + np.e), 1 / (1 + np.exp(-2)))
    blended = blend_scores(scores, np.array([0.75, 0.25]), *scale([True, True], [1, 0], [2, 4]))
    assert blended.item() == pytest.approx(1 / (1 + np.exp(0.8125)))


def test_scores_of_another_tool_are_blended_on_the_scale_that_probabilities_lend():
    # (2.8 − 2)/0.4 = 2 and logit 0 → (0 − 1)/1 = −1; the mean 0.5 goes back through centre 1 and spread 1: 1.5.
    blended = blend_scores(one(2.8, 0.5), np.array([0.5, 0.5]), *scale([False, True], [2, 1], [0.4, 1]))
    assert blended.item() == pytest.approx(1 / (1 + np.exp(-1.5)))


def test_where_nobody_writes_probabilities_the_standard_scale_serves():
    blended = blend_scores(one(2.8, -3.0), np.array([0.5, 0.5]), *scale([False, False], [2, -3], [0.4, 1]))
    assert blended.item() == pytest.approx(1 / (1 + np.exp(-1)))


def test_one_member_of_probabilities_comes_back_as_it_was(rng):
    scores = rng.random((1, 50, 3))
    blended = blend_scores(scores, np.ones(1), np.ones((1, 3), bool), rng.normal(size=(1, 3)), np.full((1, 3), 1.7))
    np.testing.assert_allclose(blended, scores[0], rtol=1e-12)


def test_a_member_without_a_study_leaves_it_to_the_others():
    weights, given_scale = np.array([0.2, 0.3, 0.5]), scale([True] * 3, [0.5, -1, 2], [1, 2, 3])
    scores = np.array([[[0.2], [np.nan], [np.nan]], [[0.6], [0.6], [np.nan]], [[0.9], [0.9], [np.nan]]])
    blended = blend_scores(scores, weights, *given_scale)
    full = one(np.nan, 0.6, 0.9)
    z = standardise(full, *given_scale)[1:, 0, 0] @ [0.375, 0.625]
    lent = weights @ [0.5, -1, 2], weights @ [1, 2, 3]
    assert blended[1, 0] == pytest.approx(1 / (1 + np.exp(-(z * lent[1] + lent[0]))))
    assert np.isfinite(blended[0, 0])
    assert np.isnan(blended[2, 0])


def test_a_member_without_weight_changes_nothing_not_even_by_a_nan(rng):
    scores = rng.random((2, 20, 1))
    with_third = np.concatenate([scores, rng.random((1, 20, 1))])
    with_third[2, ::3] = np.nan
    alone = blend_scores(scores, np.array([0.5, 0.5]), *scale([True] * 2, [0, 1], [1, 2]))
    together = blend_scores(with_third, np.array([0.5, 0.5, 0.0]), *scale([True] * 3, [0, 1, 9], [1, 2, 9]))
    np.testing.assert_array_equal(alone, together)
    only_third = np.where(np.arange(3)[:, None, None] < 2, np.nan, with_third)
    assert np.isnan(blend_scores(only_third, np.array([0.5, 0.5, 0.0]), *scale([True] * 3, [0, 1, 9], [1, 2, 9]))).all()


def test_categories_do_not_mix(rng):
    scores, weights = rng.random((2, 10, 3)), np.array([0.4, 0.6])
    parts = rng.random((2, 3)) > 0.5, rng.normal(size=(2, 3)), rng.random((2, 3)) + 0.5
    together = blend_scores(scores, weights, *parts)
    for c in range(3):
        np.testing.assert_allclose(
            together[:, [c]], blend_scores(scores[:, :, [c]], weights, *(part[:, [c]] for part in parts)), rtol=1e-12
        )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_a_blend_is_a_probability_and_keeps_the_order_that_members_agree_on(values, weight):
    scores = np.array([np.sort(values), np.sort(values) ** 2])[:, :, None]
    blended = blend_scores(scores, np.array([weight, 1 - weight]), *scale([True, True], [-2, 1], [1, 3]))[:, 0]
    assert ((blended >= 0) & (blended <= 1)).all()
    assert (np.diff(blended) >= 0).all()
