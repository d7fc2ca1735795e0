"""Tuning a run that left a fold out or learnt from frontal views: on what its backbone saw, for what it predicts."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cxr_cft.artifacts import fingerprint, open_run, write_csv, write_json
from cxr_cft.cft import tune_run
from cxr_cft.data.predictions import read_predictions
from cxr_cft.data.splits import training_splits
from cxr_cft.settings import DataSettings


@pytest.fixture
def with_data_settings(trained, tmp_path):
    """The trained run as it were with other settings of [data]: its recipe, and who was in which split."""

    def make(name, root, **settings):
        path = shutil.copytree(trained.path, tmp_path / "weights" / name)
        splits = training_splits(root, trained.categories, DataSettings(**settings))
        write_csv(path / "split.csv", ["Path", "split"], [(p, s) for s, table in splits.items() for p in table.paths])
        recipe = {**trained.info["recipe"], "data": settings}
        data = {"root": str(root), "fingerprint": fingerprint(root / "train.csv", root / "valid.csv")}
        write_json(path / "run.json", {**trained.info, "recipe": recipe, "data": data})
        return open_run(path), splits

    return make


def known(result, split):
    return (result.report[f"{split}_positives"] + result.report[f"{split}_negatives"]).to_list()


def studies_of(run, split):
    return read_predictions(run.predictions(split, tuned=True), run.categories).studies


# ---- folds


def test_what_the_fold_held_out_is_not_tuned_on_and_is_predicted_by_the_tuned_heads(
    with_data_settings, data_folder, notes
):
    run, splits = with_data_settings("small-0of2", data_folder, fold="0/2")
    result = tune_run(run, methods=["bce"], progress=notes)
    assert known(result, "train")[:2] == [12, 12]  # half of the 24 that are no test patients
    assert studies_of(run, "fold") == tuple(splits["fold"].studies)
    assert notes.told == []
    assert np.load(run.path / "features" / "fold.npy", mmap_mode="r").shape[0] == 12


def test_the_last_fold_to_be_tuned_joins_all(with_data_settings, data_folder, notes):
    runs, splits = zip(
        *(with_data_settings(f"small-{part}of2", data_folder, fold=f"{part}/2") for part in range(2)), strict=True
    )
    path = runs[0].path.parent / "small-2folds.cft.csv"
    tune_run(runs[1], methods=["bce"], progress=notes)
    assert not path.exists()
    tune_run(runs[0], methods=["bce"], progress=notes)
    assert notes.told == [f"{path}: every training study, predicted by the fold that did not see it"]
    found = read_predictions(path, runs[0].categories)
    assert found.studies == tuple(splits[0]["fold"].studies + splits[1]["fold"].studies)


def test_folds_that_do_not_fit_are_told_and_their_heads_are_kept(with_data_settings, data_folder, notes):
    tune_run(with_data_settings("small-0of2", data_folder, fold="0/2")[0], methods=["bce"])
    run, _ = with_data_settings("small-1of2", data_folder, fold="1/2", views="frontal")
    tune_run(run, methods=["bce"], progress=notes)
    assert run.tuned() is not None
    assert len(notes.told) == 1
    assert notes.told[0].startswith(
        "the predictions of the folds are not joined: runs small-0of2 and small-1of2 are no "
    )


def test_a_fold_is_no_split_whose_patients_were_seen(with_data_settings, own_data, change_split, notes):
    run, splits = with_data_settings("small-0of2", own_data, fold="0/2")
    held_out = splits["fold"].paths[0]
    train = []
    change_split(own_data, "train", lambda rows: train.extend(rows) or rows)
    change_split(own_data, "test", lambda rows: rows + [row for row in train if row[0] == held_out])
    tune_run(run, methods=["bce"], progress=notes)
    assert notes.told == []  # of train.csv, but this run never saw that patient
    assert held_out.rpartition("/")[0] in studies_of(run, "fold")


# ---- frontal views


@pytest.fixture
def with_laterals(own_data, change_split):
    """The data with a lateral view beside the first two frontal ones of every split, and studies of one alone."""

    def add(rows):
        added = []
        for k, row in enumerate(rows[:3]):
            path = row[0].replace("view1_frontal", "view2_lateral")
            if k == 2:
                path = path.replace("/study1/", "/study2/")
            (own_data.parent / path).parent.mkdir(exist_ok=True)
            shutil.copyfile(own_data.parent / rows[5][0], own_data.parent / path)
            added.append([path, "Lateral", *row[2:]])
        return rows + added

    for split in ("train", "valid", "test"):
        change_split(own_data, split, add)
    return Path(own_data)


def test_lateral_views_are_not_tuned_on_and_answer_only_for_studies_without_a_frontal(
    with_data_settings, with_laterals
):
    run, splits = with_data_settings("frontal", with_laterals, views="frontal")
    result = tune_run(run, methods=["bce"])
    assert not [path for path in splits["train"].paths if "lateral" in path]
    assert known(result, "train")[0] == len(splits["train"]) == 24
    assert known(result, "valid")[0] == len(splits["valid"]) == 12 + 1
    assert "study2" in studies_of(run, "valid")[-1]
    rows = {split: len(np.load(run.path / "features" / f"{split}.npy", mmap_mode="r")) for split in splits}
    assert rows == {split: len(table) for split, table in splits.items()}


def test_a_run_of_all_views_is_tuned_on_lateral_ones_too(with_data_settings, with_laterals):
    run, _ = with_data_settings("all", with_laterals, views="all")
    result = tune_run(run, methods=["bce"])
    assert (known(result, "train")[0], known(result, "valid")[0]) == (24 + 3, 12 + 3)
