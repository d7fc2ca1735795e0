"""The splits of a data folder, and patients whom two of them share."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cxr_cft.data import CATEGORIES
from cxr_cft.data.inspect import inspect_folder
from cxr_cft.data.splits import read_splits, shared_patients, without_patients
from cxr_cft.errors import DataError

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
