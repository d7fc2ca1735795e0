"""Folds are joined once all are there, each training study once; what does not fit together is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cxr_cft.artifacts import Run, fingerprint, open_run, read_json, write_csv, write_json
from cxr_cft.cft.tune import tune_runs
from cxr_cft.cli.main import run as command
from cxr_cft.data.labels import CATEGORIES
from cxr_cft.data.predictions import read_predictions, write_predictions
from cxr_cft.data.splits import read_splits, training_splits
from cxr_cft.ensemble.search import search_ensemble
from cxr_cft.errors import RunError
from cxr_cft.settings import DataSettings, Recipe
from cxr_cft.training.folds import fold_name, join_folds
from cxr_cft.training.inference import predict_logits
from cxr_cft.training.train import train_run

NAMES = ("Cardiomegaly", "Edema")


@pytest.fixture
def fold_run(data, tmp_path):
    """Make the folder of a run that left a fold out, as training would leave it, from made predictions."""

    def make(base, fold, *, categories=NAMES, tuned=False, data_fingerprint="0" * 64, name=None, **sections) -> Run:
        settings = DataSettings(fold=fold, views=sections.get("views", "all"))
        recipe = Recipe.model_validate(
            {"model": {"backbone": base}, "data": settings.model_dump(), **sections.get("recipe", {})}
        )
        folder = tmp_path / (name or fold_name(base, fold))
        splits = training_splits(data, categories, settings)
        write_csv(folder / "split.csv", ["Path", "split"], [(p, s) for s, table in splits.items() for p in table.paths])
        (folder / "model.safetensors").write_bytes(base.encode())
        info = {
            "recipe": recipe.model_dump(mode="json"),
            "categories": list(categories),
            "data": {"root": str(data), "fingerprint": data_fingerprint},
            "files": {"model.safetensors": fingerprint(folder / "model.safetensors")},
        }
        write_json(folder / "run.json", info)
        run = open_run(folder)
        rng = np.random.default_rng(len(base))
        studies, labels = splits["fold"].study_labels()
        scores = 1 / (1 + np.exp(-(np.nan_to_num(labels) + rng.normal(size=labels.shape))))
        write_predictions(run.predictions("fold", tuned=False), studies, categories, scores)
        if tuned:
            tune(run)
        return run

    return make


def tune(run, **changes):
    """What CFT leaves: heads, the report that vouches for them, and predictions, here of complements."""
    run.heads_file.write_bytes(b"heads")
    report = {"methods": ["bce"], "metric": "auroc", "seed": 0, "options": {"clip": 0.05}, **changes}
    heads = {"model": run.info["files"]["model.safetensors"], "heads": fingerprint(run.heads_file)}
    write_json(run.path / "cft.json", {**heads, **report})
    before = read_predictions(run.predictions("fold", tuned=False), run.categories)
    write_predictions(run.predictions("fold", tuned=True), before.studies, run.categories, 1 - before.scores)


def folds(make, base="net", parts=3, **changes):
    return [make(base, f"{part}/{parts}", **changes) for part in range(parts)]


def test_a_fold_names_its_run():
    assert fold_name("densenet121", "0/5") == "densenet121-0of5"
    assert fold_name("a-1of2", "03/12") == "a-1of2-3of12"


def test_all_folds_are_joined_with_every_training_study_once(fold_run, data):
    runs = folds(fold_run)
    path = join_folds(runs[1], tuned=False)
    assert path == runs[0].path.parent / "net-3folds.csv"
    found = read_predictions(path, NAMES)
    assert sorted(found.studies) == sorted(set(read_splits(data, NAMES)["train"].studies))
    for run in runs:
        each = read_predictions(run.predictions("fold", tuned=False), NAMES)
        np.testing.assert_array_equal(found.rows(each.studies), each.scores)


def test_whichever_fold_is_last_joins_them_to_the_same_bytes(fold_run):
    runs = folds(fold_run)
    written = {join_folds(run, tuned=False).read_bytes() for run in runs}
    assert len(written) == 1


def test_nothing_is_joined_while_a_fold_is_missing_or_unfinished(fold_run):
    runs = folds(fold_run)
    (runs[2].path / "run.json").unlink()
    assert join_folds(runs[0], tuned=False) is None
    assert not list(runs[0].path.parent.glob("*.csv"))


def test_a_run_that_is_named_as_no_fold_is_left_alone(fold_run):
    assert join_folds(fold_run("net", "0/3", name="mine"), tuned=False) is None


def test_folds_of_other_recipes_and_numbers_beside_them_do_not_matter(fold_run):
    folds(fold_run, base="other")
    folds(fold_run, parts=2)
    runs = folds(fold_run)
    join_folds(runs[0], tuned=False)
    assert [path.name for path in runs[0].path.parent.glob("*.csv")] == ["net-3folds.csv"]


def test_folds_of_frontal_views_cover_all_training_studies_too(fold_run, data):
    path = join_folds(folds(fold_run, views="frontal")[0], tuned=False)
    studies = read_predictions(path, NAMES).studies
    assert sorted(studies) == sorted(set(read_splits(data, NAMES)["train"].studies))


# ---- after CFT


def test_tuned_folds_are_joined_to_a_file_of_their_own_once_all_are_tuned(fold_run):
    runs = folds(fold_run)
    for number, run in enumerate(runs):
        assert join_folds(run, tuned=True) is None, number
        tune(run)
    path = join_folds(runs[0], tuned=True)
    assert path.name == "net-3folds.cft.csv"
    before, after = read_predictions(join_folds(runs[0], tuned=False), NAMES), read_predictions(path, NAMES)
    np.testing.assert_allclose(after.rows(before.studies), 1 - before.scores)


def test_while_folds_are_tuned_anew_by_other_settings_they_are_not_joined(fold_run):
    runs = folds(fold_run, tuned=True)
    for run in runs[:-1]:
        tune(run, methods=["ga"])
        assert join_folds(run, tuned=True) is None
    tune(runs[-1], methods=["ga"])
    assert join_folds(runs[-1], tuned=True) is not None


def test_heads_that_their_report_does_not_vouch_for_are_not_joined(fold_run):
    runs = folds(fold_run, tuned=True)
    runs[2].heads_file.write_bytes(b"newer")  # as another process leaves them before it writes cft.json
    assert join_folds(runs[0], tuned=True) is None


# ---- what does not fit


def change(run, **sections):
    info = read_json(run.path / "run.json")
    for section, values in sections.items():
        info["recipe"][section] = {**info["recipe"][section], **values}
    write_json(run.path / "run.json", info)


def test_folds_of_different_recipes_are_refused_with_what_differs(fold_run):
    runs = folds(fold_run)
    change(runs[2], training={"epochs": 9}, labels={"uncertain": "zero"})
    with pytest.raises(
        RunError,
        match=r"^runs net-0of3 and net-2of3 are no folds of one training, they differ in labels\.uncertain, "
        r"training\.epochs; train one of them again$",
    ):
        join_folds(runs[0], tuned=False)


def test_another_seed_is_another_recipe(fold_run):
    runs = [fold_run("net", f"{part}/2", recipe={"seed": part}) for part in range(2)]
    with pytest.raises(RunError, match="they differ in seed; train"):
        join_folds(runs[0], tuned=False)


def test_what_suits_a_recipe_to_a_machine_may_differ(fold_run):
    runs = folds(fold_run)
    change(
        runs[1], training={"workers": 0, "threads": 2, "precision": "bf16"}, data={"cache": False}, cft={"guard": 0.9}
    )
    assert join_folds(runs[0], tuned=False) is not None


def test_a_recipe_of_before_there_were_views_and_policies_in_full_is_read_for_what_it_meant(fold_run):
    runs = folds(fold_run)
    info = read_json(runs[1].path / "run.json")
    del info["recipe"]["data"]["views"]
    info["recipe"]["labels"]["uncertain"] = {}
    write_json(runs[1].path / "run.json", info)
    assert join_folds(runs[0], tuned=False) is not None


def test_folds_of_other_data_are_refused(fold_run):
    runs = [fold_run("net", f"{part}/2", data_fingerprint=str(part) * 64) for part in range(2)]
    with pytest.raises(RunError, match="they differ in the CSVs; train one of them again"):
        join_folds(runs[0], tuned=False)


def test_a_run_that_left_out_another_fold_than_its_name_says_is_refused(fold_run):
    runs = [fold_run("net", "0/2"), fold_run("net", "0/2", name="net-1of2")]
    with pytest.raises(RunError, match=r"^run net-1of2 left out data\.fold = 0/2, not 1/2 as its name says; train it"):
        join_folds(runs[0], tuned=False)


def test_folds_that_were_dealt_differently_are_refused(fold_run):
    runs = folds(fold_run)
    first, second = (run.predictions("fold", tuned=False) for run in runs[:2])
    twice = read_predictions(first, NAMES)
    whole = read_predictions(second, NAMES)
    write_predictions(second, twice.studies[:1], NAMES, twice.scores[:1])
    with pytest.raises(
        RunError, match=r"^runs net-0of3 and net-1of3 both left out study .*; the patients of the data "
    ):
        join_folds(runs[0], tuned=False)
    write_predictions(second, whole.studies[1:], NAMES, whole.scores[1:])
    with pytest.raises(RunError, match=r"^no fold left out 1 studies of run net-0of3: .*; the patients of the data"):
        join_folds(runs[0], tuned=False)


# ---- what they are for


def test_weights_are_searched_over_joined_folds_with_the_labels_of_training(fold_run, data, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_cft.ensemble.finders.BAGS", 2)
    monkeypatch.setattr("cxr_cft.ensemble.finders.GENERATIONS", 5)
    csvs = [join_folds(folds(fold_run, base, categories=CATEGORIES)[0], tuned=False) for base in ("net", "other")]
    found = search_ensemble([], tmp_path, csvs, data / "train.csv")
    assert [member.name for member in found.members] == ["net-3folds", "other-3folds"]
    assert found.studies == len(set(read_splits(data, [])["train"].studies))
    table = read_splits(data, found.scored)["train"]
    positives = (table.study_labels()[1] == 1).sum(axis=0)
    assert list(found.positives.values()) == positives.tolist()
    assert json.loads(found.model_dump_json())["chosen"] == found.recommended


def test_trainings_of_all_folds_end_in_predictions_of_every_training_study_that_the_ensemble_takes(
    recipe, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("cxr_cft.ensemble.finders.BAGS", 2)
    monkeypatch.setattr("cxr_cft.ensemble.finders.GENERATIONS", 5)
    runs = []
    for fold in ("0/2", "1/2"):
        assert not list(tmp_path.glob("*.csv"))
        with_fold = recipe.model_copy(update={"data": DataSettings(fold=fold)})
        runs.append(train_run(with_fold, fold_name("tiny", fold), data, tmp_path))
    list(tune_runs(runs, methods=["bce"]))
    everyone = set(read_splits(data, [])["train"].studies)
    joined = [tmp_path / "tiny-2folds.csv", tmp_path / "tiny-2folds.cft.csv"]
    for path in joined:
        assert sorted(read_predictions(path, CATEGORIES).studies) == sorted(everyone)

    splits = pd.read_csv(runs[0].path / "split.csv").groupby("split", sort=False)["Path"]
    held_out = read_splits(data, CATEGORIES)["train"]
    held_out = held_out.take(np.isin(held_out.paths, splits.get_group("fold")))
    assert not set(held_out.paths) & set(splits.get_group("train"))
    scores = pd.DataFrame(1 / (1 + np.exp(-predict_logits(runs[0], held_out).astype(float))))
    expected = scores.groupby(np.array(held_out.studies), sort=False).max()
    found = read_predictions(joined[1], CATEGORIES).rows(list(expected.index))
    np.testing.assert_allclose(found, expected.to_numpy(), rtol=0, atol=1e-5)

    members = [word for path in joined for word in ("--predictions", str(path))]
    out = tmp_path / "ensemble.json"
    assert command(["ensemble", *members, "--labels", str(data / "train.csv"), "--out", str(out)]) == 0
    assert f"categories on {len(everyone)} studies of " in " ".join(capsys.readouterr().out.split())
    assert read_json(out)["studies"] == len(everyone)


def test_a_training_on_frontal_views_predicts_every_study_and_its_fold_too(recipe, data, tmp_path):
    root = tmp_path / data.name
    root.mkdir()
    for split in ("train", "valid", "test"):
        rows = pd.read_csv(data / f"{split}.csv", dtype=str)
        rows.loc[rows["Path"].str.contains("view2"), "Frontal/Lateral"] = "Lateral"
        rows.loc[0, "Frontal/Lateral"] = "Lateral"
        rows.to_csv(root / f"{split}.csv", index=False)
    training = recipe.training.model_copy(update={"batch_size": 10})  # no batch of one view, which has no variance
    frontal = recipe.model_copy(update={"data": DataSettings(fold="0/2", views="frontal"), "training": training})
    run = train_run(frontal, "tiny-0of2", root, tmp_path / "weights", image_root=data.parent)
    recorded = pd.read_csv(run.path / "split.csv").set_index("Path")["split"]
    words = pd.read_csv(root / "train.csv").set_index("Path")["Frontal/Lateral"]
    assert (words[recorded.index[recorded == "train"]] == "Frontal").all()
    for split in ("valid", "test"):
        rows = pd.read_csv(root / f"{split}.csv")
        used = rows[(rows["Frontal/Lateral"] == "Frontal") | (rows.index == 0)]["Path"]
        assert list(recorded.index[recorded == split]) == list(used)
        studies = read_predictions(run.predictions(split, tuned=False), CATEGORIES).studies
        assert list(studies) == list(dict.fromkeys(rows["Path"].str.rpartition("/")[0]))
