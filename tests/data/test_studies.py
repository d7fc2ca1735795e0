"""From views to studies: the maximum of what is there, in the order of first appearance, under the names as given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_cft.data.studies import aggregate_views, lateral_views, study_of, without_laterals

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
