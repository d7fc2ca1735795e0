import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from cxr_cft.metrics import OperatingPoint, radiologist_points, radiologists_under_roc


def literally(labels, scores, points):
    """The rule as it is told: walk along the curve, point by point."""
    false_rate, true_rate, _ = roc_curve(labels, scores)
    under = 0
    for specificity, sensitivity in points:
        x = 1 - specificity
        for i in range(len(false_rate)):
            if false_rate[i] >= x:
                before = true_rate[i - 1] if i > 0 else 0.0
                under += before >= sensitivity
                break
    return under


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), decimals=st.sampled_from([0, 1, 6]))
def test_counts_like_a_literal_walk_along_the_curve(seed, decimals):
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, 38)]
    scores = np.round(rng.normal(size=40) + labels, decimals)
    # Points on the grid of the curve itself, where reaching and passing differ, and points anywhere.
    negatives, positives = (labels == 0).sum(), (labels == 1).sum()
    points = [(1 - rng.integers(negatives + 1) / negatives, rng.integers(positives + 1) / positives) for _ in range(20)]
    points += [tuple(rng.random(2)) for _ in range(20)]
    assert radiologists_under_roc(labels, scores, map(OperatingPoint._make, points)) == literally(
        labels, scores, points
    )


@pytest.mark.parametrize(
    ("specificity", "sensitivity", "under"),
    [
        # The curve of this test runs through (0, 0), (0, 1/2), (1/2, 1/2), (1/2, 1), (1, 1).
        (0.75, 0.5, 1),  # reaches (1/2, 1/2); before it lies (0, 1/2)
        (0.75, 0.51, 0),  # an interpolated curve would not differ here, but a point after the walk would
        (0.5, 0.5, 1),  # x on a curve point: the point before that one decides, not the jump to 1 at the same x
        (0.5, 0.6, 0),
        (0.25, 1.0, 1),  # reaches (1, 1); before it lies (1/2, 1)
        (0.0, 1.0, 1),
        (1.0, 0.0, 1),  # nothing lies before (0, 0), whose own true positive rate is 0
        (1.0, 0.1, 0),
    ],
)
def test_on_a_curve_made_by_hand(specificity, sensitivity, under):
    points = [OperatingPoint(specificity, sensitivity)]
    assert radiologists_under_roc([1, 0, 1, 0, np.nan], [4, 3, 2, 1, 9], points) == under


def test_a_perfect_model_has_every_published_reader_under_its_curve_and_a_constant_one_none():
    labels = np.arange(200) % 2
    for points in radiologist_points().values():
        assert radiologists_under_roc(labels, labels, points) == 3
        assert radiologists_under_roc(labels, np.zeros(200), points) == 0


def test_published_points_are_three_for_each_competition_category():
    published = radiologist_points()
    assert list(published) == ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
    assert all(len(points) == 3 for points in published.values())
    assert published["Edema"][1] == OperatingPoint(specificity=0.8127962085308057, sensitivity=0.7948717948717948)


def test_published_points_cannot_be_altered():
    with pytest.raises(TypeError, match="does not support item assignment"):
        radiologist_points()["Edema"] = ()


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1, np.nan], [1, 2, 3], "at least one of each"),
        ([1, 0, -1], [1, 2, 3], "nothing else but nan"),
        ([1, 0], [1, np.nan], "scores must be finite"),
        ([1, 0], [1, 2, 3], r"their shapes are \(2,\) and \(3,\)"),
    ],
)
def test_what_has_no_curve_is_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        radiologists_under_roc(labels, scores, radiologist_points()["Edema"])
