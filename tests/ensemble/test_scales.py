"""Every scale keeps a member's order, and says of its scores what its name says, whatever the member writes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize
from scipy.stats import rankdata
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from cxr_cft.data.odds import logit
from cxr_cft.ensemble import scales as module
from cxr_cft.ensemble.blend import scale_logit, to_scale
from cxr_cft.ensemble.file import Curve, Line
from cxr_cft.ensemble.scales import SCALES, edges_of, fit_scales

every_scale = pytest.mark.parametrize("kind", SCALES)
ALTERNATING = np.arange(12) % 2.0
"""Labels that say nothing of the order."""


def fitted(kind, x, labels=None, probability=None):
    """The scale of one member and category; probabilities are known by their range unless something else is said."""
    x = np.asarray(x, dtype=np.float64)[None, :, None]
    labels = ALTERNATING[: x.size] if labels is None else np.asarray(labels, dtype=np.float64)
    edges = np.array([[np.nan]]) if probability is False else edges_of(x)
    [[scale]] = fit_scales(kind, x, logits_of(x, edges), labels[:, None], edges)
    return scale


def logits_of(scores, edges):
    """The logits of members (M, S, C) that write probabilities, of others any."""
    known = ~np.isnan(edges)[:, None]
    return scale_logit(np.where(known, scores, 0.5), np.where(known, edges[:, None], 0.0))


def scaled(scale, x):
    """Scores (N,) on a scale, as a blend brings them there."""
    return to_scale(np.asarray(x, dtype=np.float64)[None, :, None], [[scale]])[0, :, 0]


def as_stored(scale):
    """What an ensemble file keeps of a scale, and refuses if it is not in order."""
    kept = (Line if "slope" in scale else Curve).model_validate(scale).model_dump_json(exclude_unset=True)
    return json.loads(kept)


@st.composite
def members(draw):
    """Scores (N,) on a grid, of probabilities or of another tool, and labels (N,) with unknowns."""
    rows = draw(st.integers(2, 40))
    size, low = draw(st.sampled_from([(1e-3, 0), (1 / 64, 0), (1.0, -32), (1e30, -32), (1e-3, -1e3)]))
    x = (low + draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 64)))) * size
    return x, draw(hnp.arrays(np.float64, rows, elements=st.sampled_from([0.0, 1.0, np.nan])))


@every_scale
@settings(deadline=None, max_examples=60)
@given(case=members())
def test_the_order_is_kept_strictly_where_a_member_knows_anything(kind, case):
    x, labels = case
    scale = fitted(kind, x, labels)
    assert scale == as_stored(scale)
    z = scaled(scale, np.unique(x))
    assert np.isfinite(z).all()
    if scale.get("slope") == 0:
        assert kind in ("platt", "isotonic", "rank")
        assert (z == z[0]).all()
    else:
        assert (np.diff(z) > 0).all()


@every_scale
def test_scores_between_and_beyond_all_that_were_seen_are_in_order_too(kind):
    rng = np.random.default_rng(0)
    labels = (rng.random(80) < 0.4).astype(np.float64)
    x = 2 * labels + rng.normal(size=80)
    new = np.concatenate([np.linspace(-20, 20, 400), [-1e4, -1e3, -100, 100, 1e3, 1e4]])
    for scores, unseen in ((x, new), (1 / (1 + np.exp(-x)), np.linspace(1e-4, 1 - 1e-4, 300))):
        z = scaled(fitted(kind, scores, labels), np.sort(unseen))
        assert np.isfinite(z).all()
        assert (np.diff(z) > 0).all()


@every_scale
def test_probabilities_of_exactly_0_and_1_are_scores_like_others(kind):
    x = np.array([0, 0, 0.2, 0.5, 0.9, 1, 1, 1])
    z = scaled(fitted(kind, x, [0, 0, 0, 1, 0, 1, 1, 1]), x)
    assert np.isfinite(z).all()
    assert (np.diff(z)[[1, 2, 3, 4]] > 0).all()
    assert z[0] == z[1]
    assert z[5] == z[7]


@every_scale
@pytest.mark.parametrize("value", [0.0, 0.3, 1 / 3, 1.0, -7.1, 123456789.123, -1e12 / 3, 1e30])
@pytest.mark.parametrize("rows", [2, 3, 7, 12])
def test_a_member_that_says_the_same_of_all_is_a_constant_of_usual_size(kind, value, rows):
    scale = as_stored(fitted(kind, np.full(rows, value)))
    z = scaled(scale, np.full(rows, value))
    assert (z == z[0]).all()
    if kind in ("zscore", "zlogit"):
        assert z[0] == pytest.approx(0, abs=1e-12)
    if kind not in ("none", "logit"):
        assert abs(z[0]) <= 3
        # Nor is what it says elsewhere blown up.
        assert abs(scaled(scale, [value * 1.01])[0] - z[0]) < 1


@every_scale
@pytest.mark.parametrize("labels", [[0, 1], [1, 0], [1, np.nan], [np.nan, np.nan]])
def test_two_studies_are_enough(kind, labels):
    scale = as_stored(fitted(kind, [0.2, 0.7], labels))
    z = scaled(scale, [0.2, 0.7])
    assert np.isfinite(z).all()
    assert z[0] < z[1] or (kind in ("platt", "isotonic") and labels == [1, 0] and z[0] == z[1])


@every_scale
@pytest.mark.parametrize(
    "x",
    [[1e-300, 2e-300, 5e-300, 1e-299], [0, 1e-300, 0.5, 1], [-1e30, 0, 1, 1e30], [0.3, np.nextafter(0.3, 1), 0.5, 0.6]],
)
def test_scores_very_near_or_far_do_no_harm(kind, x):
    scale = as_stored(fitted(kind, x, [0, 1, 0, 1]))
    for scores in (x, [-1e30, 0, 1e-300, 2], [0, 3e-300, 0.4, 1e30]):
        z = scaled(scale, scores)
        assert np.isfinite(z).all()
        assert (np.diff(z) >= 0).all()


def test_rounding_keeps_a_member_from_being_an_outlier_by_its_exact_0_and_1():
    # The nearest that it comes to them otherwise is 0.02, so that they count as 0.01 and 0.99.
    x = np.array([0, 0.02, 0.5, 0.9, 1])
    edges = edges_of(x[None, :, None])
    assert edges.tolist() == [[0.01]]
    expected = logit(np.array([0.01, 0.0296, 0.5, 0.892, 0.99]))
    np.testing.assert_allclose(scaled(fitted("logit", x), x), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "edge"),
    [
        ([0.1, 0.3], 0),
        ([1e-300, 0.3], 0),
        ([0, 0.3], 0.15),
        ([1, 0.8], 0.1),
        ([0, 1, 0, 1], 0.25),
        ([0, 1e-300], 1e-15),
        ([0, 1 - 2**-53], 1e-15),
        ([0, 0.4, 1.1], np.nan),
        ([-0.1, 0.4, 1], np.nan),
        ([0, 0.4, np.nan], np.nan),
    ],
)
def test_an_edge_is_half_the_least_distance_that_a_member_keeps_if_it_writes_0_or_1(x, edge):
    scores = np.stack([np.full(len(x), 0.4), x], axis=1)[None]
    np.testing.assert_allclose(edges_of(scores), [[0, edge]], rtol=1e-12)


def test_raw_scores_stay_as_they_are():
    assert scaled(fitted("none", [0.2, 0.9]), [0.25, 0.0, 1.2]).tolist() == [0.25, 0, 1.2]


def test_what_lies_far_beyond_all_that_was_seen_counts_for_little_more_and_still_does_not_tie():
    given = fitted("none", [0.0, 1.0])  # limits −0.5 and 1.5, and an eighth of their distance beyond them
    z = scaled(given, [1.4, 1.5, 2.0, 1e3, 1e6])
    np.testing.assert_allclose(z, [1.4, 1.5, 1.5 + 0.25 * 2 / 3, 1.75, 1.75], atol=1e-4)
    assert (np.diff(z) > 0).all()
    np.testing.assert_allclose(scaled(given, [-0.4, -1.0, -1e6]), [-0.4, -0.5 - 0.25 * 2 / 3, -0.75], atol=1e-4)


def test_a_members_first_exact_1_is_no_outlier():
    rng = np.random.default_rng(0)
    seen = np.round(rng.uniform(0.02, 0.98, 100), 2)
    given = fitted("zlogit", seen)
    assert scaled(given, [1.0])[0] < 3 * scaled(given, seen).max()


def test_logits_are_those_of_the_probabilities():
    np.testing.assert_allclose(scaled(fitted("logit", [0.2, 0.9]), [0.5, 0.75]), [0, np.log(3)], atol=1e-15)


@pytest.mark.parametrize("kind", ["zlogit", "zscore"])
@pytest.mark.parametrize("low", [0.0, -3.0])
def test_standardised_scores_have_mean_0_and_deviation_1(kind, low):
    x = np.random.default_rng(0).uniform(low, 1, 50)
    z = scaled(fitted(kind, x), x)
    assert z.mean() == pytest.approx(0, abs=1e-12)
    assert z.std() == pytest.approx(1, rel=1e-12)
    raw = logit(x) if (kind, low) == ("zlogit", 0.0) else x
    np.testing.assert_allclose(np.corrcoef(z, raw)[0, 1], 1, rtol=1e-12)


@pytest.mark.parametrize("kind", ["logit", "zlogit"])
def test_scores_that_are_no_probabilities_have_no_logits_and_are_standardised(kind):
    x = [-2.0, 0.3, 0.9, 4]
    assert fitted(kind, x) == fitted("zscore", x)
    assert fitted(kind, [0.1, 0.3, 0.9], probability=False) == fitted("zscore", [0.1, 0.3, 0.9])


def test_a_rank_is_the_share_of_studies_below_with_ties_counting_half():
    x = np.random.default_rng(0).integers(0, 20, 100) / 20
    np.testing.assert_allclose(scaled(fitted("rank", x, x), x), (rankdata(x) - 0.5) / 100, rtol=1e-12)
    # By hand: 0.1 has half of its two equals below it, 0.5 two and half of itself; between them it rises evenly.
    z = scaled(fitted("rank", [0.5, 0.1, 0.1, 0.9], [0, 1, 0, 1]), [0.1, 0.5, 0.9, 0.3])
    np.testing.assert_allclose(z, [0.25, 0.625, 0.875, 0.4375], rtol=1e-12)


def test_ranks_of_many_studies_are_kept_at_a_few_hundred_knots():
    x = np.random.default_rng(0).normal(size=5000)
    scale = fitted("rank", x, x > 0)
    assert len(scale["x"]) == len(scale["y"]) == 257
    assert (scale["x"][0], scale["x"][-1]) == (x.min(), x.max())
    np.testing.assert_allclose(scaled(scale, x), (rankdata(x) - 0.5) / 5000, atol=0.004)


def platts(labels):
    """Platt's targets: a positive is one of P + 1 in P + 2, a negative none of N in N + 2, with one more of each."""
    positives, negatives = (labels == 1).sum(), (labels == 0).sum()
    return np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def loss(line, x, target):
    logits = line[0] * x + line[1]
    return (np.logaddexp(0, logits) - target * logits).sum()


@pytest.mark.parametrize(("distance", "low"), [(0.3, 0), (2, 0), (2, 5), (5, 0)])
@pytest.mark.parametrize("positives", [1, 8, 40])
def test_platts_line_is_scikit_learns_on_his_soft_targets(distance, low, positives):
    rng = np.random.default_rng(positives)
    labels = rng.permutation(np.repeat([1.0, 0.0], [positives, 80 - positives]))
    x = low + distance * labels + rng.normal(size=80)
    target = platts(labels)
    # A soft target is a study of either class, with weights.
    model = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000)
    model.fit(np.tile(x, 2)[:, None], np.repeat([1, 0], 80), sample_weight=np.concatenate([target, 1 - target]))
    expected = model.coef_.item(), model.intercept_.item()
    assert expected[0] > 0
    for scale in (fitted("platt", x, labels, False), fitted("platt", 1 / (1 + np.exp(-x)), labels)):
        np.testing.assert_allclose([scale["slope"], scale["intercept"]], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_platts_line_is_the_best_also_where_classes_are_far_apart_or_scores_very_uneven(seed):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(5, 250))
    labels = (rng.random(rows) < rng.choice([0.05, 0.3, 0.6])).astype(np.float64)
    labels[:2] = 0, 1
    x = [30 * labels + rng.normal(size=rows), rng.standard_cauchy(rows) + 5 * labels, np.exp(3 * labels) + labels][
        seed % 3
    ]
    x = x * 10.0 ** rng.integers(-3, 4)
    scale = fitted("platt", x, labels, probability=False)
    z, target = x / x.std(), platts(labels)
    found = loss((scale["slope"], scale["intercept"]), x, target)
    bounds = [(0, None), (None, None)]
    best = min(minimize(loss, (slope, 0), (z, target), bounds=bounds, tol=1e-12).fun for slope in (0.0, 1.0, 10.0))
    assert scale["slope"] >= 0
    assert found == pytest.approx(best, abs=1e-5)


def test_perfect_separation_gives_platts_targets():
    # Two scores, one a class: the line goes through their targets' logits, 4 of 5 and 1 of 8.
    labels = np.repeat([1.0, 0.0], [3, 6])
    z = scaled(fitted("platt", np.where(labels == 1, 0.9, 0.2), labels), [0.9, 0.2])
    np.testing.assert_allclose(z, [np.log(4), -np.log(7)], rtol=1e-6)


def test_a_member_whose_scores_fall_as_the_chance_rises_is_flat_by_calibration():
    rng = np.random.default_rng(0)
    labels = (rng.random(60) < 0.3).astype(np.float64)
    x = rng.normal(size=60) - 2 * labels
    scale = fitted("platt", x, labels, probability=False)
    assert scale["slope"] == 0
    assert scale["intercept"] == pytest.approx(logit(platts(labels).mean()))
    scale = fitted("isotonic", np.arange(6.0), [1, 1, 0, 1, 0, 0])
    assert (scale["slope"], scale["intercept"]) == (0, 0.5)


def test_platt_sees_nothing_in_known_studies_that_share_a_score():
    scale = fitted("platt", [0.3, 0.3, 0.3, 0.9, 0.1], [1, 0, 0, np.nan, np.nan])
    assert scale["slope"] == 0
    assert scale["intercept"] == pytest.approx(logit(np.mean([2 / 3, 1 / 4, 1 / 4])))


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_only_known_labels_calibrate(kind):
    rng = np.random.default_rng(0)
    labels = (rng.random(60) < 0.4).astype(np.float64)
    x = rng.normal(size=60) + labels
    more = np.concatenate([x, rng.normal(size=30) * 5])
    with_unknown = fitted(kind, more, np.append(labels, np.full(30, np.nan)), probability=False)
    np.testing.assert_allclose(
        scaled(with_unknown, np.sort(x)), scaled(fitted(kind, x, labels, probability=False), np.sort(x)), rtol=1e-6
    )


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
@pytest.mark.parametrize("label", [0.0, 1.0, np.nan])
@pytest.mark.parametrize("x", [[0.1, 0.3, 0.9, 0.4], [-1, 3, 2, 5]])
def test_without_both_classes_there_is_nothing_to_calibrate_by(kind, label, x):
    assert fitted(kind, x, [label] * 3 + [np.nan]) == fitted("zlogit", x)


@settings(deadline=None)
@given(case=members())
def test_isotonic_is_scikit_learns_at_the_centres_of_its_steps_and_straight_between(case):
    x, labels = case
    known = ~np.isnan(labels)
    labels[np.flatnonzero(known)[:1]] = 1.0
    if (labels[known] == 1).all():
        return
    scale = fitted("isotonic", x, labels)
    expected = IsotonicRegression().fit(x[known], labels[known]).predict(x[known])
    steps, of_step = np.unique(expected.round(12), return_inverse=True)
    if len(steps) == 1:
        assert scale["slope"] == 0
        assert scale["intercept"] == pytest.approx(steps[0])
        return
    centres = np.array([x[known][of_step == step].mean() for step in range(len(steps))])
    np.testing.assert_allclose(scale["y"], steps, atol=1e-9)
    np.testing.assert_allclose(scale["x"], centres, rtol=1e-9, atol=1e-12 * np.abs(x).max())
    np.testing.assert_allclose(scaled(scale, (centres[1:] + centres[:-1]) / 2), (steps[1:] + steps[:-1]) / 2, atol=1e-6)


def test_isotonic_by_hand():
    # 0.2 and 0.3 are out of order: together half of them are positive, around 0.25. Twice 0.1 has no positive.
    scale = fitted("isotonic", [0.1, 0.1, 0.2, 0.3, 0.8], [0, 0, 1, 0, 1])
    np.testing.assert_allclose(scale["x"], [0.1, 0.25, 0.8], rtol=1e-12)
    np.testing.assert_allclose(scale["y"], [0, 0.5, 1], rtol=1e-12)


def test_centres_of_steps_rise_even_among_neighbouring_floats():
    rng = np.random.default_rng(0)
    curves = 0
    for _ in range(300):
        base, steps = rng.random(), rng.integers(0, 4, 10)
        labels = (rng.random(10) < 0.2 + 0.6 * (steps > 1)).astype(np.float64)
        scale = fitted("isotonic", base + steps * np.spacing(base), labels)
        assert as_stored(scale) == scale
        curves += "x" in scale
    assert curves > 100


@pytest.mark.parametrize("kind", ["none", "logit", "zscore", "zlogit", "rank"])
def test_only_calibration_looks_at_labels(kind):
    x = np.random.default_rng(0).random(12)
    assert fitted(kind, x, ALTERNATING) == fitted(kind, x, 1 - ALTERNATING) == fitted(kind, x, np.full(12, np.nan))


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_brings_scores_nearer_to_the_chances(kind):
    rng = np.random.default_rng(0)
    chance = rng.random(2000)
    labels = (rng.random(2000) < chance).astype(np.float64)
    boastful = 1 / (1 + np.exp(-3 * logit(chance)))
    z = scaled(fitted(kind, boastful, labels), boastful)
    calibrated = 1 / (1 + np.exp(-z)) if kind == "platt" else z
    assert np.abs(calibrated - chance).mean() < 0.04 < np.abs(boastful - chance).mean() / 3


def test_every_member_and_category_gets_its_own_scale_and_none_where_it_lacks_one():
    rng = np.random.default_rng(0)
    scores, labels = rng.random((3, 20, 2)), (rng.random((20, 2)) < 0.5).astype(np.float64)
    scores[1] = 4 * scores[1] - 2
    scores[2, 7, 0] = np.nan
    edges = edges_of(scores)
    for kind in SCALES:
        found = fit_scales(kind, scores, logits_of(scores, edges), labels, edges)
        assert found[2][0] is None
        for m, c in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1)):
            assert found[m][c] == fitted(kind, scores[m, :, c], labels[:, c])


def test_an_unknown_kind_is_refused():
    with pytest.raises(KeyError, match="zlog10"):
        fitted("zlog10", [0.1, 0.2])


@every_scale
def test_through_json_a_scale_gives_the_same_bytes(kind):
    rng = np.random.default_rng(0)
    labels = (rng.random(700) < 0.4).astype(np.float64)
    x = rng.random(700) / 2 + labels / 3
    scale = fitted(kind, x, labels)
    new = rng.random(100)
    assert scaled(json.loads(json.dumps(scale)), new).tobytes() == scaled(scale, new).tobytes()


def test_newtons_method_has_far_more_steps_than_it_takes(monkeypatch):
    # Known studies lie far from the mean of all, and their classes far apart.
    rng = np.random.default_rng(0)
    known = (rng.random(300) < 0.1).astype(np.float64)
    x = np.concatenate([30 * known + rng.normal(size=300), rng.normal(size=300) - 500])
    labels = np.append(known, np.full(300, np.nan))
    whole = fitted("platt", x, labels)
    monkeypatch.setattr(module, "ITERATIONS", 12)
    assert fitted("platt", x, labels) == whole
    best = minimize(loss, (1.0, 0.0), (x[:300] / 10, platts(known)), tol=1e-12).fun
    assert loss((whole["slope"], whole["intercept"]), x[:300], platts(known)) == pytest.approx(best, abs=1e-6)
