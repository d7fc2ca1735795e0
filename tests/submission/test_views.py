"""A model of frontal views answers in the bundle as in the package: by lateral views only where there is no frontal."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cxr_cft.artifacts import open_run, write_json
from cxr_cft.data.labels import COMPETITION
from cxr_cft.submission import predict
from cxr_cft.submission.bundle import package
from cxr_cft.submission.inputs import read_views
from cxr_cft.submission.verify import rehearse


@pytest.fixture(scope="module")
def viewed(data, tmp_path_factory):
    """The test set, every second view of a study called lateral by the CSV, and one study's only view too."""
    rows = pd.read_csv(data / "test.csv")[["Path"]]
    studies = rows["Path"].str.rpartition("/")[0]
    rows["Frontal/Lateral"] = np.where(studies.duplicated(), "Lateral", "Frontal")
    rows.loc[(~studies.duplicated(keep=False)).idxmax(), "Frontal/Lateral"] = "lateral"
    path = tmp_path_factory.mktemp("viewed") / "viewed.csv"
    rows.to_csv(path, index=False)
    assert rows["Frontal/Lateral"].str.lower().eq("lateral").sum() > 3
    return path


@pytest.fixture(scope="module")
def frontal(run, tmp_path_factory):
    """A run of frontal views."""
    folder = shutil.copytree(run.path, tmp_path_factory.mktemp("frontal") / "frontal")
    recipe = {**run.info["recipe"], "data": {**run.info["recipe"]["data"], "views": "frontal"}}
    write_json(folder / "run.json", {**run.info, "recipe": recipe})
    return open_run(folder)


@pytest.fixture(scope="module")
def packed(frontal, searched, tmp_path_factory):
    """(ensemble, bundle) of that run alone."""
    ensemble = searched(frontal.path.parent)
    return ensemble, package(ensemble, "frontal", tmp_path_factory.mktemp("submissions"))


def test_a_bundle_says_of_each_member_which_views_it_uses(packed, bundle):
    said = [json.loads((made.folder / "submission.json").read_text())["members"] for made in (packed[1], bundle)]
    assert [[member["views"] for member in members] for members in said] == [["frontal"], ["all", "all", "all"]]


def test_the_bundle_predicts_what_the_package_predicts_from_the_same_views(
    packed, viewed, data, answer, package_answer
):
    ensemble, made = packed
    found = answer(made.folder, viewed, data.parent)
    studies, expected = package_answer(ensemble, viewed, frontal=["frontal"])
    assert list(found.index) == studies
    _, by_all = package_answer(ensemble, viewed)
    columns = [ensemble.categories.index(category) for category in COMPETITION]
    np.testing.assert_allclose(found.to_numpy(), expected[:, columns], rtol=0, atol=1e-5)
    assert np.abs(expected - by_all).max() > 1e-4  # ten times what is allowed: the views matter


def test_its_rehearsal_gives_the_same(packed, viewed, data, answer, tmp_path):
    found = rehearse(packed[1].folder, viewed, tmp_path / "rehearsed.csv", image_root=data.parent)
    assert found.unreadable == 0
    rehearsed = pd.read_csv(tmp_path / "rehearsed.csv").set_index("Study")
    pd.testing.assert_frame_equal(rehearsed, answer(packed[1].folder, viewed, data.parent), rtol=0, atol=1e-6)


@pytest.mark.parametrize("aggregation", ["max", "mean", "logit_mean"])
def test_each_member_uses_its_own_views_joined_as_the_ensemble_says(
    bundle, ensemble, edited, changed, viewed, data, answer, package_answer, tmp_path, aggregation
):
    def mix(content):
        content["aggregation"] = aggregation
        content["members"][1]["views"] = "frontal"  # one of the two heads that share a model

    found = answer(edited(bundle.folder, tmp_path / "mixed", mix), viewed, data.parent)
    _, expected = package_answer(changed(ensemble, aggregation=aggregation), viewed, frontal=["tuned"])
    columns = [ensemble.categories.index(category) for category in COMPETITION]
    np.testing.assert_allclose(found.to_numpy(), expected[:, columns], rtol=0, atol=1e-5)
    _, others = package_answer(changed(ensemble, aggregation="max" if aggregation != "max" else "mean"), viewed)
    assert np.abs(expected - others).max() > 1e-3


def test_a_bundle_of_before_there_was_a_choice_uses_all_views(packed, edited, viewed, data, answer, tmp_path):
    def forget(content):
        del content["members"][0]["views"]

    def use_all(content):
        content["members"][0]["views"] = "all"

    old = answer(edited(packed[1].folder, tmp_path / "old", forget), viewed, data.parent)
    every = answer(edited(packed[1].folder, tmp_path / "every", use_all), viewed, data.parent)
    pd.testing.assert_frame_equal(old, every)
    assert not old.equals(answer(packed[1].folder, viewed, data.parent))


def test_without_a_word_in_the_csv_the_files_name_says_which_view_it_is(packed, viewed, data, answer, tmp_path):
    rows = pd.read_csv(viewed)
    named = []
    for path, word in rows.itertuples(index=False):
        name = path.replace("frontal", "Lateral") if word == "Lateral" else path
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data.parent / path, tmp_path / name)
        named.append(name)
    pd.DataFrame({"Path": named}).to_csv(tmp_path / "named.csv", index=False)
    by_name = answer(packed[1].folder, tmp_path / "named.csv", tmp_path)
    by_word = answer(packed[1].folder, viewed, data.parent)
    pd.testing.assert_frame_equal(by_name, by_word, rtol=0, atol=1e-6)


def test_a_frontal_view_that_cannot_be_read_leaves_its_study_to_the_lateral_one(
    packed, viewed, data, answer, tmp_path, capsys
):
    rows = pd.read_csv(viewed)
    lateral = rows[rows["Frontal/Lateral"] == "Lateral"].iloc[[0]]
    study = lateral["Path"].iloc[0].rpartition("/")[0]
    frontal = rows["Path"][rows["Path"].str.startswith(f"{study}/") & (rows["Frontal/Lateral"] == "Frontal")].iloc[0]
    copy = shutil.copytree(data, tmp_path / "spoilt" / data.name)
    (copy.parent / frontal).write_bytes(b"no image")
    lateral.to_csv(tmp_path / "lateral.csv", index=False)
    alone = answer(packed[1].folder, tmp_path / "lateral.csv", data.parent)
    spoilt = answer(packed[1].folder, viewed, copy.parent)
    np.testing.assert_allclose(spoilt.loc[study], alone.loc[study], rtol=0, atol=1e-6)
    assert f"left out {frontal}" in capsys.readouterr().err
    whole = answer(packed[1].folder, viewed, data.parent)
    pd.testing.assert_frame_equal(spoilt.drop(study), whole.drop(study))


def test_laterals_are_dropped_only_beside_a_frontal_view_with_scores():
    paths = ["a/s/1.jpg", "a/s/2.jpg", "b/s/1.jpg", "b/s/2.jpg", "c/s/1_lateral.jpg", "d/s/1.jpg"]
    words = ["Frontal", "Lateral", "Frontal", "Lateral", "", ""]
    scores = np.array([[0.1], [0.2], [np.nan], [0.4], [0.5], [np.nan]])
    predict.drop_laterals(scores, paths, words)
    np.testing.assert_array_equal(scores[:, 0], [0.1, np.nan, np.nan, 0.4, 0.5, np.nan])


def test_a_category_that_a_member_lacks_does_not_make_its_views_unreadable():
    scores = np.array([[0.1, np.nan], [0.2, np.nan]])
    predict.drop_laterals(scores, ["a/s/1.jpg", "a/s/2.jpg"], ["Frontal", "Lateral"])
    np.testing.assert_array_equal(scores, [[0.1, np.nan], [np.nan, np.nan]])


def test_nothing_that_could_be_read_is_nothing_to_drop():
    scores = np.full((2, 3), np.nan)
    predict.drop_laterals(scores, ["a/s/1.jpg", "a/s/2.jpg"], ["Frontal", "Lateral"])
    assert np.isnan(scores).all()


def test_words_for_views_are_read_where_there_are_any_each_path_once(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("Frontal/Lateral,Path\nFrontal,a/1.jpg\n,b/1.jpg\nLateral,a/1.jpg\nLateral,\nLateral,a/2.jpg\n")
    assert read_views(source) == (["a/1.jpg", "b/1.jpg", "a/2.jpg"], ["Frontal", "", "Lateral"])
    source.write_text("Path\na/1.jpg\n")
    assert read_views(source) == (["a/1.jpg"], [""])
