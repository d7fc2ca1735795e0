"""A model of frontal views answers in the bundle as in the package: by lateral views only where there is no frontal."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cxr_cft.artifacts import open_run, write_json
from cxr_cft.data.labels import COMPETITION
from cxr_cft.data.predictions import read_predictions, write_logits
from cxr_cft.data.splits import usable_views
from cxr_cft.data.table import read_table
from cxr_cft.ensemble.search import search_ensemble
from cxr_cft.submission import predict
from cxr_cft.submission.bundle import package
from cxr_cft.submission.verify import rehearse
from cxr_cft.training.inference import predict_logits


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
def packed(frontal, tmp_path_factory):
    """(ensemble, bundle) of that run alone."""
    ensemble = search_ensemble([], frontal.path.parent, [], None)
    return ensemble, package(ensemble, "frontal", tmp_path_factory.mktemp("submissions"))


@pytest.fixture
def answer(tmp_path):
    """What a bundle's script writes for a CSV: a frame by study."""

    def answer(folder, source, image_root):
        output = tmp_path / "out.csv"
        predict.predict(folder, source, output, image_root, 16)
        return pd.read_csv(output).set_index("Study")

    return answer


def table_of(source, data, categories):
    return read_table(source, data, categories, labelled=False, image_root=data.parent)


def predictions_of(run, table, views, path):
    """What the package predicts for the studies, from a run and the views that it uses."""
    used = usable_views(table, views)
    write_logits(path, used, predict_logits(run, used))
    return read_predictions(path, run.categories).rows(list(dict.fromkeys(table.studies)))


def edited(folder, place, edit):
    """A copy of a bundle with another submission.json that its manifest vouches for."""
    copy = shutil.copytree(folder, place)
    submission, manifest = copy / "submission.json", copy / "manifest.json"
    content = json.loads(submission.read_text())
    edit(content)
    submission.write_text(json.dumps(content))
    sums = json.loads(manifest.read_text())
    sums["sha256"]["submission.json"] = hashlib.sha256(submission.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(sums))
    return copy


def test_a_bundle_says_of_each_member_which_views_it_uses(packed, bundle):
    said = [json.loads((made.folder / "submission.json").read_text())["members"] for made in (packed[1], bundle)]
    assert [[member["views"] for member in members] for members in said] == [["frontal"], ["all", "all"]]


def test_the_bundle_predicts_what_the_package_predicts_from_the_same_views(
    packed, frontal, viewed, data, answer, tmp_path
):
    ensemble, made = packed
    table = table_of(viewed, data, ensemble.categories)
    found = answer(made.folder, viewed, data.parent)
    assert list(found.index) == list(dict.fromkeys(table.studies))
    scores = {v: predictions_of(frontal, table, v, tmp_path / f"{v}.csv") for v in ("frontal", "all")}
    blended = {v: ensemble.blend(each[None]) for v, each in scores.items()}
    columns = [ensemble.categories.index(category) for category in COMPETITION]
    np.testing.assert_allclose(found.to_numpy(), blended["frontal"][:, columns], rtol=0, atol=1e-5)
    assert np.abs(blended["frontal"] - blended["all"]).max() > 1e-4  # ten times what is allowed: the views matter


def test_its_rehearsal_gives_the_same(packed, viewed, data, answer, tmp_path):
    found = rehearse(packed[1].folder, viewed, tmp_path / "rehearsed.csv", image_root=data.parent)
    assert found.unreadable == 0
    rehearsed = pd.read_csv(tmp_path / "rehearsed.csv").set_index("Study")
    pd.testing.assert_frame_equal(rehearsed, answer(packed[1].folder, viewed, data.parent), rtol=0, atol=1e-6)


def test_each_member_uses_its_own_views(bundle, ensemble, weights, viewed, data, answer, tmp_path):
    copy = edited(bundle.folder, tmp_path / "mixed", lambda content: content["members"][0].update(views="frontal"))
    table = table_of(viewed, data, ensemble.categories)
    scores = [
        predictions_of(open_run(weights / member.name), table, views, tmp_path / f"{views}.csv")
        for member, views in zip(ensemble.members, ("frontal", "all"), strict=True)
    ]
    columns = [ensemble.categories.index(category) for category in COMPETITION]
    expected = ensemble.blend(np.stack(scores))[:, columns]
    np.testing.assert_allclose(answer(copy, viewed, data.parent).to_numpy(), expected, rtol=0, atol=1e-5)


def test_a_bundle_of_before_there_was_a_choice_uses_all_views(packed, viewed, data, answer, tmp_path):
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


def test_nothing_that_could_be_read_is_nothing_to_drop():
    scores = np.full((2, 3), np.nan)
    predict.drop_laterals(scores, ["a/s/1.jpg", "a/s/2.jpg"], ["Frontal", "Lateral"])
    assert np.isnan(scores).all()


def test_words_for_views_are_read_where_there_are_any_each_path_once(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("Frontal/Lateral,Path\nFrontal,a/1.jpg\n,b/1.jpg\nLateral,a/1.jpg\nLateral,\nLateral,a/2.jpg\n")
    assert predict.read_views(source) == (["a/1.jpg", "b/1.jpg", "a/2.jpg"], ["Frontal", "", "Lateral"])
    source.write_text("Path\na/1.jpg\n")
    assert predict.read_views(source) == (["a/1.jpg"], [""])
