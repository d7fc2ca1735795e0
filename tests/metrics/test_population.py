"""AUROC of a whole population from one sort: exact, but for scores that differ in a float's last bit alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from cxr_cft.metrics import auroc, population, population_auroc

# All but the negative number next to 0: without its last bit it would be a zero.
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False).filter(lambda x: not -2e-45 < x < 0)


@st.composite
def cases(draw, elements, max_rows=40):
    """Scores (K, N) of float32 and labels (N,) of both classes."""
    rows = draw(st.integers(2, max_rows))
    positive = draw(hnp.arrays(np.bool_, rows))
    positive[draw(st.permutations(range(rows)))[:2]] = [False, True]
    scores = draw(hnp.arrays(np.float32, (draw(st.integers(1, 4)), rows), elements=elements))
    return scores, positive


def even(scores):
    """The same scores with 0 for the last bit: those that differed in it alone are the same now."""
    return (scores.view(np.int32) & np.int32(-2)).view(np.float32)


def reference(scores, positive):
    return [roc_auc_score(positive, row.astype(np.float64)) for row in scores]


@settings(deadline=None)
@given(case=cases(st.integers(-4, 4).map(lambda k: k / 4)))
def test_equals_scikit_learn_in_every_row_where_ties_abound(case):
    np.testing.assert_allclose(population_auroc(*case), reference(*case), rtol=1e-12)


@settings(deadline=None)
@given(case=cases(FINITE))
def test_is_auroc_to_the_last_digit_for_any_finite_scores_without_a_last_bit(case):
    scores, positive = even(case[0]), case[1]
    np.testing.assert_array_equal(population_auroc(scores, positive), auroc(positive, scores.T))


@settings(deadline=None)
@given(case=cases(FINITE))
def test_scores_that_differ_in_their_last_bit_alone_tie(case):
    # So that it is within half of the pairs that do; of other scores, it is `auroc` (the test before this one).
    scores, positive = case
    np.testing.assert_array_equal(population_auroc(scores, positive), population_auroc(even(scores), positive))
    won, lost = scores[:, positive, None], scores[:, None, ~positive]
    near = (even(scores)[:, positive, None] == even(scores)[:, None, ~positive]) & (won != lost)
    off = np.abs(population_auroc(scores, positive) - auroc(positive, scores.T))
    assert (off <= near.mean(axis=(1, 2)) / 2 + 1e-12).all()


def test_neighbouring_floats_tie_in_pairs_and_the_next_ones_do_not():
    one = np.float32(1)
    above = np.nextafter(one, np.float32(2))
    third = np.nextafter(above, np.float32(2))
    scores = np.array([[one, above], [above, third], [one, third], [-above, -one], [-third, -above]], dtype=np.float32)
    assert population_auroc(scores, np.array([False, True])).tolist() == [0.5, 1, 1, 0.5, 1]


@pytest.mark.parametrize("rows", [100, 1000])
def test_equals_auroc_on_rows_as_a_search_sees_them(rows):
    rng = np.random.default_rng(rows)
    positive = rng.random(rows) < 0.1
    scores = (rng.normal(size=(40, rows)) + positive).astype(np.float32)
    np.testing.assert_allclose(population_auroc(scores, positive), auroc(positive, scores.T), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [2**11 - 1, 2**11, 2**11 + 1, 2**13 + 1])
@pytest.mark.parametrize("positives", [1, 2000])
def test_the_sums_of_many_ranks_stay_exact(rows, positives):
    # Positives above all negatives have the greatest sum of ranks that there is.
    positive = np.arange(rows) >= rows - positives
    rng = np.random.default_rng(rows)
    grid = rng.integers(-9, 9, (3, rows)).astype(np.float32)
    scores = np.concatenate([np.arange(rows, dtype=np.float32)[None], grid])
    values = population_auroc(scores, positive)
    assert values[0] == 1
    np.testing.assert_array_equal(values, auroc(positive, scores.T))


def test_the_order_of_floats_is_kept_over_their_whole_range():
    tiny, small = np.float32(1e-45), np.finfo(np.float32).tiny
    ascending = np.array([-3e38, -1e30, -1.5, -1e-30, -small, -4 * tiny, 0, 4 * tiny, small, 1e-30, 1.5, 1e30, 3e38])
    scores = ascending.astype(np.float32)
    for k in range(1, len(scores)):
        assert population_auroc(scores[None], np.arange(len(scores)) >= k).item() == 1
        assert population_auroc(scores[None], np.arange(len(scores)) < k).item() == 0


def test_negative_and_positive_zero_are_a_tie():
    scores = np.array([[-0.0, 0.0], [0.0, -0.0]], dtype=np.float32)
    assert population_auroc(scores, np.array([True, False])).tolist() == [0.5, 0.5]


def test_a_row_of_one_score_is_a_coin_toss_and_spoils_no_other_row():
    scores = np.array([[2, 2, 2, 2], [1, 2, 3, 4], [-1, -1, -1, -1], [4, 3, 2, 1]], dtype=np.float32)
    assert population_auroc(scores, np.array([False, False, True, True])).tolist() == [0.5, 1, 0.5, 0]


@pytest.mark.parametrize("cells", [1, 50, 51, 149, 7 * 50])
def test_blocks_of_any_size_give_the_same_values(monkeypatch, cells):
    rng = np.random.default_rng(0)
    positive = rng.random(50) < 0.4
    scores = np.round(rng.normal(size=(23, 50)), 1).astype(np.float32)
    whole = population_auroc(scores, positive)
    monkeypatch.setattr(population, "BLOCK_CELLS", cells)
    np.testing.assert_array_equal(population_auroc(scores, positive), whole)


def test_the_memory_order_of_scores_does_not_matter_and_they_are_left_as_they_were():
    rng = np.random.default_rng(0)
    positive = rng.random(30) < 0.4
    scores = rng.normal(size=(5, 30)).astype(np.float32)
    before = scores.tobytes()
    expected = population_auroc(scores, positive)
    np.testing.assert_array_equal(population_auroc(np.asfortranarray(scores), positive), expected)
    np.testing.assert_array_equal(population_auroc(np.repeat(scores, 2, axis=0)[::2], positive), expected)
    assert scores.tobytes() == before


def test_no_row_has_no_values():
    assert population_auroc(np.zeros((0, 2), dtype=np.float32), np.array([True, False])).shape == (0,)


@pytest.mark.parametrize(
    ("scores", "positive", "message"),
    [
        (np.zeros((2, 3)), [True, False, True], r"\(K, N\) of float32 .* but they are \(2, 3\) of float64"),
        (np.zeros(3, dtype=np.float32), [True, False, True], r"but they are \(3,\) of float32"),
        (np.zeros((2, 3), dtype=np.float32), [True, False], r"labels \(N,\), but they are .* and \(2,\)"),
        (np.zeros((2, 3), dtype=np.float32), [True] * 3, "a positive and a negative"),
        (np.zeros((2, 3), dtype=np.float32), [False] * 3, "a positive and a negative"),
        (np.zeros((2, 0), dtype=np.float32), [], "a positive and a negative"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(scores, positive, message):
    with pytest.raises(ValueError, match=message):
        population_auroc(scores, np.array(positive, dtype=bool))
