"""A data folder's facts: states, views, leakage, and files that cannot be read."""

from __future__ import annotations

import pytest

from cxr_cft.data.inspect import inspect_folder
from cxr_cft.errors import DataError


def test_states_are_counted_per_category_and_split(films):
    found = inspect_folder(films)
    assert found.root == films.resolve()
    assert found.splits["train"].states == {"Cardiomegaly": (1, 1, 1, 1), "Edema": (1, 1, 1, 1)}
    assert found.splits["valid"].states == {"Cardiomegaly": (1, 1, 0, 0), "Edema": (1, 1, 0, 0)}


def test_positive_negative_uncertain_and_blank_stand_in_that_order(films):
    (films / "valid.csv").write_text(
        "Path,Edema\n"
        + "".join(f"p{n}/s/v.jpg,{state}\n" for n, state in enumerate("1110"))
        + "p8/s/v.jpg,-1\np9/s/v.jpg,-1\n"
        + "".join(f"q{n}/s/v.jpg,\n" for n in range(5))
    )
    assert inspect_folder(films).splits["valid"].states == {"Edema": (3, 1, 2, 5)}


def test_rows_studies_patients_and_views_are_counted_apart(films):
    facts = inspect_folder(films).splits["train"]
    assert (facts.rows, facts.studies, facts.patients) == (4, 3, 2)
    assert facts.views == {"Frontal": 3, "Lateral": 1}
    assert (facts.missing, facts.unreadable) == ([], {})


def test_columns_that_chexpert_has_not_are_passed_over(films):
    text = (films / "valid.csv").read_text().replace("Sex", "Mass")
    (films / "valid.csv").write_text(text)
    assert list(inspect_folder(films).splits["valid"].states) == ["Cardiomegaly", "Edema"]


def test_missing_and_unreadable_images_are_told_apart_and_named_as_in_the_csv(films):
    study = films / "train" / "patient1" / "study1"
    (study / "view1_frontal.jpg").unlink()
    lateral = study / "view2_lateral.jpg"
    lateral.write_bytes(lateral.read_bytes()[:-300])
    (films / "train" / "patient2" / "study1" / "view1_frontal.jpg").write_bytes(b"")
    facts = inspect_folder(films).splits["train"]
    assert facts.missing == ["films/train/patient1/study1/view1_frontal.jpg"]
    assert list(facts.unreadable) == [
        "films/train/patient1/study1/view2_lateral.jpg",
        "films/train/patient2/study1/view1_frontal.jpg",
    ]
    assert "truncated" in facts.unreadable["films/train/patient1/study1/view2_lateral.jpg"]


def test_patients_in_two_splits_are_named(films):
    text = (films / "valid.csv").read_text().replace("patient3", "patient1")
    (films / "valid.csv").write_text(text)
    assert inspect_folder(films).shared == {("train", "valid"): ["patient1"]}


def test_progress_is_told_image_by_image(films):
    told = []

    class Watching:
        def track(self, items, description, total, unit="steps"):
            told.append((description, total, unit))
            yield from items

        def note(self, message):
            raise AssertionError(message)

    inspect_folder(films, Watching())
    assert told == [("reading train", 4, "images"), ("reading valid", 2, "images")]


def test_a_wrong_label_is_told_with_its_line_and_column(films):
    text = (films / "train.csv").read_text().replace("-1.0,1.0", "-1.0,7")
    (films / "train.csv").write_text(text)
    with pytest.raises(DataError, match=r"train\.csv, line 5, Cardiomegaly: '7' is no label"):
        inspect_folder(films)


def test_a_folder_without_csvs_says_what_it_should_hold(tmp_path):
    with pytest.raises(DataError, match=r"has no train\.csv; a data folder holds train\.csv, valid\.csv and"):
        inspect_folder(tmp_path)
