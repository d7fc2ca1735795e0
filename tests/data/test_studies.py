"""From views to studies: what is there joined in three ways, in the order of first appearance, under given names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_cft.data.odds import expit, logit
from cxr_cft.data.studies import AGGREGATIONS, aggregate_views, lateral_views, study_of, without_laterals

views = st.lists(
    st.tuples(st.sampled_from(["p2/s1", "p1/s1", "p1/s2", "p10/s1"]), st.floats(0, 1) | st.just(np.nan)), max_size=12
)


@pytest.mark.parametrize(
    ("path", "study"),
    [
        ("CheXpert-v1.0/valid/patient00000/study1/view1_frontal.jpg", "CheXpert-v1.0/valid/patient00000/study1"),
        ("./valid//p/s/v.jpg", "./valid//p/s"),
        ("/data/p/s/v.jpg", "/data/p/s"),
        ("p q/s,1/v.jpg", "p q/s,1"),
        ("v.jpg", ""),
    ],
)
def test_a_study_is_the_path_without_its_file_character_for_character(path, study):
    assert study_of(path) == study


def test_each_category_takes_its_own_maximum():
    studies, joined = aggregate_views(["b/1", "a/1", "b/2"], np.array([[0.1, 0.9], [0.5, 0.5], [0.2, 0.3]]))
    assert studies == ["b", "a"]
    assert joined.tolist() == [[0.2, 0.9], [0.5, 0.5]]


@settings(deadline=None)
@given(views)
def test_a_study_is_the_maximum_of_those_of_its_views_that_have_a_value(rows):
    paths = [f"{study}/view{number}.jpg" for number, (study, _) in enumerate(rows)]
    studies, joined = aggregate_views(paths, np.array([[value] for _, value in rows]).reshape(-1, 1))
    assert studies == list(dict.fromkeys(study for study, _ in rows))
    for study, value in zip(studies, joined[:, 0], strict=True):
        present = [given_value for name, given_value in rows if name == study and not np.isnan(given_value)]
        np.testing.assert_equal(value, max(present, default=np.nan))


def test_a_view_without_a_prediction_leaves_the_categories_of_the_others_alone():
    joined = aggregate_views(["a/1", "a/2"], np.array([[np.nan, 0.3], [0.2, np.nan]]))[1]
    assert joined.tolist() == [[0.2, 0.3]]


def test_values_may_be_negative():
    assert aggregate_views(["a/1", "a/2"], np.array([[-5.0], [-2.0]]))[1].tolist() == [[-2.0]]


def test_the_given_values_are_not_changed():
    given_values = np.array([[np.nan], [0.5]])
    aggregate_views(["a/1", "a/2"], given_values)
    np.testing.assert_array_equal(given_values, [[np.nan], [0.5]])


# ---- other ways than the maximum


def joined(rows, how):
    """The studies and one category's value of each, of (study, value) rows."""
    paths = [f"{study}/view{number}.jpg" for number, (study, _) in enumerate(rows)]
    studies, values = aggregate_views(paths, np.array([[value] for _, value in rows]).reshape(-1, 1), how)
    return dict(zip(studies, values[:, 0], strict=True))


def values_of(rows, study):
    return np.array([value for name, value in rows if name == study and not np.isnan(value)])


def test_the_maximum_is_what_views_are_joined_by_unless_told():
    assert aggregate_views(["a/1", "a/2"], np.array([[0.25], [0.75]]))[1].tolist() == [[0.75]]


def test_the_mean_and_the_mean_logit_of_known_numbers():
    rows = [("a", 0.5), ("a", 0.9)]  # odds 1 and 9, whose geometric mean is 3
    assert joined(rows, "mean") == {"a": pytest.approx(0.7, abs=1e-15)}
    assert joined(rows, "logit_mean") == {"a": pytest.approx(0.75, abs=1e-15)}


@settings(deadline=None)
@given(views)
def test_a_study_is_the_mean_of_those_of_its_views_that_have_a_value(rows):
    mean, logit_mean = joined(rows, "mean"), joined(rows, "logit_mean")
    assert list(mean) == list(logit_mean) == list(dict.fromkeys(study for study, _ in rows))
    for study in mean:
        values = values_of(rows, study)
        expected = values.mean() if len(values) else np.nan
        np.testing.assert_allclose(mean[study], expected, rtol=1e-14)
        expected = expit(np.asarray(logit(values).mean())) if len(values) else np.nan
        np.testing.assert_allclose(logit_mean[study], expected, rtol=1e-12, atol=2e-15)


@settings(deadline=None)
@given(views, st.sampled_from(AGGREGATIONS))
def test_no_way_of_joining_leaves_the_range_of_the_views_and_one_view_stays_what_it_is(rows, how):
    for study, value in joined(rows, how).items():
        values = values_of(rows, study)
        assert np.isnan(value) if not len(values) else values.min() <= value <= values.max()


@settings(deadline=None)
@given(views, st.sampled_from(AGGREGATIONS), st.randoms(use_true_random=False))
def test_the_order_of_the_views_does_not_matter(rows, how, random):
    other = random.sample(rows, len(rows))
    again = joined(other, how)
    for study, value in joined(rows, how).items():
        np.testing.assert_allclose(again[study], value, rtol=1e-14)


def test_a_category_with_any_value_that_is_no_probability_has_no_logits():
    given_values = np.array([[0.5, 0.5, np.nan], [0.9, 0.9, 0.9], [0.1, 1.1, np.nan], [0.1, 0.1, 0.5]])
    found = aggregate_views(["a/1", "a/2", "b/1", "b/2"], given_values, "logit_mean")[1]
    np.testing.assert_allclose(found, [[0.75, 0.7, 0.9], [0.1, 0.6, 0.5]], rtol=1e-14)
    apart = aggregate_views(["a/1", "a/2"], given_values[:2], "logit_mean")[1]
    np.testing.assert_allclose(apart, [[0.75, 0.75, 0.9]], rtol=1e-14)  # without b, all are probabilities


def test_certain_views_and_unheard_of_scores_can_be_averaged():
    rows = [("a", 0.0), ("a", 1.0), ("b", 1.0), ("b", 1.0), ("c", 0.0)]
    assert joined(rows, "logit_mean") == {"a": pytest.approx(0.5, abs=2e-4), "b": 1.0, "c": 0.0}
    assert joined([("a", -1e9), ("a", 1e9), ("b", 3e300)], "logit_mean") == {"a": 0.0, "b": 3e300}


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_no_views_are_no_studies(how):
    studies, found = aggregate_views([], np.empty((0, 3)), how)
    assert studies == []
    assert found.shape == (0, 3)


def test_another_way_is_refused():
    with pytest.raises(ValueError, match=r"^views are joined by one of max, mean, logit_mean, not by median$"):
        aggregate_views(["a/1"], np.array([[0.5]]), "median")


# ---- frontal and lateral views


@pytest.mark.parametrize(
    ("path", "word", "lateral"),
    [
        ("p/s/view2_lateral.jpg", "", True),
        ("p/s/VIEW2_LATERAL.JPG", "", True),
        ("p/s/view1_frontal.jpg", "", False),
        ("lateral/s/view1.jpg", "", False),  # a folder says nothing of the view
        ("p/s/1.jpg", "Lateral", True),
        ("p/s/1.jpg", " lateral ", True),
        ("p/s/view2_lateral.jpg", "Frontal", False),  # the CSV's word goes before the name
        ("p/s/view1_frontal.jpg", "Lateral", True),
        ("p/s/view2_lateral.jpg", "unknown", True),
        ("1.jpg", "", False),
    ],
)
def test_a_view_is_lateral_if_the_csv_says_so_or_else_its_file(path, word, lateral):
    assert lateral_views([path], [word]).tolist() == [lateral]


films = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["frontal", "lateral"])), max_size=10)


@settings(deadline=None)
@given(films)
def test_a_lateral_view_is_used_only_where_its_study_has_no_frontal_and_no_study_is_lost(rows):
    paths = [f"{study}/view{number}_{kind}.jpg" for number, (study, kind) in enumerate(rows)]
    used = without_laterals(paths, [""] * len(paths))
    assert used.shape == (len(paths),)
    assert used.dtype == bool
    for (study, kind), kept in zip(rows, used, strict=True):
        assert kept == (kind == "frontal" or (study, "frontal") not in rows)
    kept_paths = [path for path, kept in zip(paths, used, strict=True) if kept]
    assert {study_of(path) for path in kept_paths} == {study_of(path) for path in paths}
