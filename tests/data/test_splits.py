"""The splits of a data folder, and patients whom two of them share."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_cft.data import CATEGORIES
from cxr_cft.data.inspect import inspect_folder
from cxr_cft.data.splits import (
    deal_patients,
    fold_of,
    read_splits,
    shared_patients,
    training_splits,
    usable_views,
    without_patients,
)
from cxr_cft.errors import DataError
from cxr_cft.settings import DataSettings

RADIOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "nih1000"


def test_a_folder_with_two_csvs_has_two_splits(films):
    splits = read_splits(films, ["Edema"])
    assert list(splits) == ["train", "valid"]
    assert [len(table) for table in splits.values()] == [4, 2]


def test_a_test_csv_makes_a_third(films):
    shutil.copy(films / "valid.csv", films / "test.csv")
    assert list(read_splits(films, ["Edema"])) == ["train", "valid", "test"]


def test_a_category_that_one_split_lacks_is_told_with_that_split(films):
    text = (films / "valid.csv").read_text()
    (films / "valid.csv").write_text(text.replace("Cardiomegaly", "Heart"))
    with pytest.raises(DataError, match=r"valid\.csv has no column Cardiomegaly$"):
        read_splits(films, ["Edema", "Cardiomegaly"])


def test_splits_without_common_patients_share_none(films):
    assert shared_patients(read_splits(films, [])) == {}


def test_shared_patients_are_found_for_every_pair_whatever_the_folder_above(films):
    (films / "valid.csv").write_text("Path\nvalid/patient2/study9/v.jpg\nvalid/patient1/study9/v.jpg\n")
    (films / "test.csv").write_text("Path\ntest/patient2/study1/v.jpg\ntest/patient8/study1/v.jpg\n")
    assert shared_patients(read_splits(films, [])) == {
        ("train", "valid"): ["patient1", "patient2"],
        ("train", "test"): ["patient2"],
        ("valid", "test"): ["patient2"],
    }


def test_rows_of_shared_patients_are_left_out_and_the_rest_stays_in_order(films):
    (films / "valid.csv").write_text("Path\nvalid/patient1/study9/v.jpg\n")
    train, valid = read_splits(films, []).values()
    kept = without_patients(train, [valid])
    assert kept.patients == ("patient2",)
    assert without_patients(train, []).paths == train.paths
    assert len(without_patients(train, [train])) == 0


# ---- the splits of a training


def write_views(root, split, views):
    """A CSV of views `PATIENT/STUDY/FILE`; what is lateral is so by its file's name."""
    root.mkdir(exist_ok=True)
    (root / f"{split}.csv").write_text("Path\n" + "".join(f"{root.name}/{split}/{view}\n" for view in views))


@pytest.fixture
def made(tmp_path):
    """Twelve training patients: each has a frontal view, every third a lateral too, and the last lateral ones alone."""
    root = tmp_path / "made"
    views = [f"p{k:02d}/s1/view1_frontal.jpg" for k in range(11)] + ["p11/s1/view1_lateral.jpg"]
    views += [f"p{k:02d}/s1/view2_lateral.jpg" for k in range(0, 12, 3)]
    write_views(root, "train", views)
    write_views(root, "valid", ["v1/s1/view1_frontal.jpg", "v1/s1/view2_lateral.jpg", "v1/s2/view1_lateral.jpg"])
    return root


def files(table):
    return [path.partition("/")[2].partition("/")[2] for path in table.paths]


def test_without_wishes_a_training_gets_the_splits_as_they_are(made, notes):
    found = training_splits(made, [], DataSettings(), progress=notes)
    assert {split: table.paths for split, table in found.items()} == {
        split: table.paths for split, table in read_splits(made, []).items()
    }
    assert notes.told == []


def test_patients_of_other_splits_are_left_out_of_training_and_that_is_said(made, notes):
    write_views(made, "test", ["p00/s9/view1_frontal.jpg", "p05/s9/view1_frontal.jpg"])
    found = training_splits(made, [], DataSettings(), progress=notes)
    assert list(found) == ["train", "valid", "test"]
    assert not {"p00", "p05"} & set(found["train"].patients)
    assert len(found["train"]) == 13
    assert notes.told == ["left out 3 training views of patients who are in other splits"]


def test_a_training_set_of_patients_of_other_splits_alone_is_refused(made):
    write_views(made, "test", [f"p{k:02d}/s9/view1_frontal.jpg" for k in range(12)])
    with pytest.raises(
        DataError, match=r"train\.csv: every patient is also in another split; nothing is left to train"
    ):
        training_splits(made, [], DataSettings())


# ---- frontal views


def test_frontal_views_alone_are_learnt_from_and_a_study_of_lateral_ones_is_not(made, notes):
    train = training_splits(made, [], DataSettings(views="frontal"), progress=notes)["train"]
    assert files(train) == [f"p{k:02d}/s1/view1_frontal.jpg" for k in range(11)]
    assert notes.told == ["data.views = frontal: left out lateral views, 5 of train, 1 of valid"]


def test_of_other_splits_lateral_views_stay_where_their_study_has_no_frontal(made):
    write_views(made, "test", ["t1/s1/view1_lateral.jpg", "t2/s1/view2_lateral.jpg", "t2/s1/view1_frontal.jpg"])
    found = training_splits(made, [], DataSettings(views="frontal"))
    assert files(found["valid"]) == ["v1/s1/view1_frontal.jpg", "v1/s2/view1_lateral.jpg"]
    assert files(found["test"]) == ["t1/s1/view1_lateral.jpg", "t2/s1/view1_frontal.jpg"]


def test_the_csvs_word_for_a_view_goes_before_its_files_name(films):
    text = (films / "train.csv").read_text().replace("Male,Lateral", "Male,Frontal")
    (films / "train.csv").write_text(text)
    assert len(training_splits(films, [], DataSettings(views="frontal"))["train"]) == 4


def test_a_table_is_used_in_full_where_all_views_are(made):
    table = read_splits(made, [])["valid"]
    assert usable_views(table, "all") is table
    assert len(usable_views(table, "frontal")) == 2


def test_training_without_a_frontal_view_is_refused(made):
    write_views(made, "train", ["p00/s1/view1_lateral.jpg", "p01/s1/view1_lateral.jpg"])
    with pytest.raises(DataError, match=r"train\.csv has no frontal view to train on.*; set data\.views=all$"):
        training_splits(made, [], DataSettings(views="frontal"))


# ---- folds


names = st.sets(st.text(min_size=1, max_size=8), max_size=40)


@settings(deadline=None)
@given(names, st.integers(2, 7), st.randoms())
def test_patients_are_dealt_evenly_and_by_who_there_is_alone(patients, parts, random):
    dealt = deal_patients(patients, parts)
    assert set(dealt) == patients
    sizes = [list(dealt.values()).count(part) for part in range(parts)]
    assert max(sizes) - min(sizes) <= 1
    shuffled = [*patients, *patients]
    random.shuffle(shuffled)
    assert deal_patients(shuffled, parts) == dealt


def test_patients_are_not_dealt_by_their_numbers():
    dealt = deal_patients([f"patient{k:05d}" for k in range(200)], 2)
    together = sum(dealt[f"patient{k:05d}"] == dealt[f"patient{k + 1:05d}"] for k in range(0, 200, 2))
    assert 30 < together < 70


@pytest.mark.parametrize("views", ["all", "frontal"])
def test_the_folds_of_a_training_hold_out_each_patient_once_whole(made, views):
    everyone = set(read_splits(made, [])["train"].studies)
    seen = []
    for part in range(5):
        found = training_splits(made, [], DataSettings(views=views, fold=f"{part}/5"))
        assert list(found) == ["train", "valid", "fold"]
        assert not set(found["train"].patients) & set(found["fold"].patients)
        assert len(set(found["fold"].patients)) in (2, 3)
        seen += dict.fromkeys(found["fold"].studies)
    assert sorted(seen) == sorted(everyone)


def test_the_folds_of_recipes_agree_whatever_views_they_learn_from(made):
    for part in range(3):
        held_out = [
            set(training_splits(made, [], DataSettings(views=views, fold=f"{part}/3"))["fold"].patients)
            for views in ("all", "frontal")
        ]
        assert held_out[0] == held_out[1]


def test_a_fold_is_predicted_as_validation_is_from_lateral_views_only_without_a_frontal(made):
    held_out = [
        file
        for part in range(3)
        for file in files(training_splits(made, [], DataSettings(views="frontal", fold=f"{part}/3"))["fold"])
    ]
    assert [file for file in held_out if "lateral" in file] == ["p11/s1/view1_lateral.jpg"]


def test_how_many_are_held_out_is_said(made, notes):
    training_splits(made, [], DataSettings(fold="0/2"), progress=notes)
    assert len(notes.told) == 1
    assert re.fullmatch(
        r"data\.fold = 0/2: 6 patients \(\d+ views\) are trained on, 6 patients \(\d+ views\) held out", notes.told[0]
    )


def test_parts_that_would_be_empty_are_refused(made):
    assert len(training_splits(made, [], DataSettings(fold="11/12"))["fold"]) >= 1
    with pytest.raises(
        DataError, match=r"train\.csv: 12 training patients are too few for data\.fold = 0/13, .*; take fewer parts$"
    ):
        training_splits(made, [], DataSettings(fold="0/13"))


def test_a_fold_is_read_as_numbers():
    assert fold_of("00/5") == fold_of("0/5") == (0, 5)


@pytest.mark.skipif(not RADIOGRAPHS.is_dir(), reason=f"the real radiographs are not there ({RADIOGRAPHS.name})")
def test_real_radiographs_are_read_in_full_and_their_facts_are_told():
    splits = read_splits(RADIOGRAPHS, CATEGORIES)
    found = inspect_folder(RADIOGRAPHS)
    assert list(found.splits) == ["train", "valid", "test"]
    for name, table in splits.items():
        facts = found.splits[name]
        assert (facts.rows, facts.missing, facts.unreadable) == (len(table), [], {})
        assert facts.studies == len(table.study_labels()[0])
        unlabelled = [category for category, states in facts.states.items() if states[3] == facts.rows]
        assert unlabelled == ["Enlarged Cardiomediastinum", "Lung Opacity", "Fracture", "Support Devices"]
        assert np.array_equal(np.isnan(table.labels).sum(axis=0), [states[3] for states in facts.states.values()])
    assert found.shared == {}
