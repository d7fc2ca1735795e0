"""Tuning a run: what it writes, what it refuses, and that it can be killed anywhere."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.special import expit

from cxr_cft.artifacts import open_run
from cxr_cft.cft import FineTuned, Options, tune, tune_run, tune_runs
from cxr_cft.cft.store import Store
from cxr_cft.cli import main as cli
from cxr_cft.data.predictions import read_predictions, read_rows
from cxr_cft.data.splits import read_splits
from cxr_cft.errors import RunError
from cxr_cft.settings import CftSettings
from cxr_cft.training.inference import predict_logits

OUTPUTS = (
    *("heads.safetensors", "cft.json", "predictions/valid.cft.csv", "predictions/test.cft.csv"),
    *("predictions/valid.views.cft.csv", "predictions/test.views.cft.csv"),
)


@pytest.fixture(scope="module")
def tuned(trained, tmp_path_factory):
    """(run, result) of a tuned copy of the run; no test writes to it."""
    folder = tmp_path_factory.mktemp("tuned") / "small"
    shutil.copytree(trained.path, folder)
    return open_run(folder), tune_run(open_run(folder))


def outputs(run):
    return {name: (run.path / name).read_bytes() for name in OUTPUTS}


def scores(run, split, *, tuned):
    return read_predictions(run.predictions(split, tuned=tuned), run.categories)


def test_heads_and_predictions_of_every_split_but_training_are_written(tuned):
    run, _ = tuned
    heads = load_file(run.heads_file)
    assert heads["weight"].shape[0] == len(heads["bias"]) == 4
    names = {path.name for path in (run.path / "predictions").iterdir()}
    studies = {"valid.csv", "valid.cft.csv", "test.csv", "test.cft.csv"}
    assert names == studies | {"valid.views.csv", "valid.views.cft.csv", "test.views.csv", "test.views.cft.csv"}
    assert not list(run.path.rglob("*.partial"))


def test_predictions_are_those_of_the_tuned_heads(tuned, data_folder):
    run, _ = tuned
    heads = load_file(run.heads_file)
    table = read_splits(data_folder, run.categories)["valid"]
    features = np.load(run.path / "features" / "valid.npy")
    found = scores(run, "valid", tuned=True)
    np.testing.assert_allclose(
        found.rows(table.studies), expit(features @ heads["weight"].T + heads["bias"]), rtol=1e-5
    )
    np.testing.assert_allclose(found.rows(table.studies), expit(predict_logits(run, table)), rtol=1e-4)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_every_view_is_predicted_and_joins_to_its_studys_prediction_to_the_last_bit(tuned, data_folder, split):
    run, _ = tuned
    views = read_rows(run.predictions(split, tuned=True, views=True), run.categories)
    assert views.names == read_splits(data_folder, run.categories)[split].paths
    assert views.joined().scores.tobytes() == scores(run, split, tuned=True).scores.tobytes()


def test_categories_that_were_left_predict_what_they_did_before(tuned):
    run, result = tuned
    report = result.report
    before, after = scores(run, "valid", tuned=False), scores(run, "valid", tuned=True)
    assert before.studies == after.studies
    left = (report["method"] == "original").to_numpy()
    assert left.any()
    assert not left.all()
    np.testing.assert_allclose(after.scores[:, left], before.scores[:, left], rtol=1e-5)
    assert (np.abs(after.scores[:, ~left] - before.scores[:, ~left]).max(axis=0) > 1e-4).all()


def test_a_category_without_labels_is_predicted_as_a_constant(tuned):
    run, result = tuned
    report = result.report
    assert report.set_index("category").loc["Fracture", "reason"].startswith("no known labels in training")
    assert set(scores(run, "valid", tuned=True).scores[:, 3]) == {0.5}


def test_uncertain_labels_and_patients_of_other_splits_are_not_tuned_on(tuned):
    report = tuned[1].report
    edema = report.set_index("category").loc["Edema"]
    # 24 of 26 rows of training are no test patient's; of those every fourth is uncertain.
    assert edema["train_positives"] + edema["train_negatives"] == 18
    assert edema["valid_positives"] + edema["valid_negatives"] == 9
    atelectasis = report.set_index("category").loc["Atelectasis"]
    assert (atelectasis["train_positives"], atelectasis["train_negatives"]) == (12, 12)


def test_cft_json_is_the_report_and_says_whose_heads_these_are(tuned):
    run, result = tuned
    report = result.report
    text = (run.path / "cft.json").read_text()
    assert "NaN" not in text
    content = json.loads(text)
    assert run.tuned() == content
    assert content["model"] == run.info["files"]["model.safetensors"]
    assert (content["methods"], content["metric"], content["seed"]) == (["bce", "ga"], "auroc", 0)
    assert "optimistic" in content["note"]
    told = pd.DataFrame(content["categories"])
    assert list(told["category"]) == list(run.categories)
    assert list(told["method"]) == list(report["method"])
    assert content["categories"][3]["before"] is None
    np.testing.assert_array_equal(told["after"].astype(float), report["after"])
    np.testing.assert_array_equal(told["seconds"], report["seconds"])


def test_no_category_falls_on_validation(tuned):
    report = tuned[1].report
    known = report.dropna(subset="before")
    assert len(known) == 3
    assert (known["after"] >= known["before"]).all()


def test_the_same_data_and_settings_give_the_same_but_for_seconds(tuned, run, outcome):
    tune_run(run)
    assert outcome(run) == outcome(tuned[0])


def test_a_rerun_writes_the_same_bytes_without_a_model_or_a_method(run, monkeypatch, tuned_categories):
    first_result = tune_run(run)
    first = outputs(run)
    assert tuned_categories == [0, 1, 2, 3]
    monkeypatch.setattr("cxr_cft.training.inference.each_batch", None)
    monkeypatch.setattr("cxr_cft.cft.features.load_model", None)
    again = tune_run(run)
    assert tuned_categories == [0, 1, 2, 3]
    assert outputs(run) == first
    pd.testing.assert_frame_equal(again.report, first_result.report)
    np.testing.assert_array_equal(again.weight, first_result.weight)
    assert again.summary == first_result.summary


def test_the_recipes_methods_give_way_to_the_callers(run):
    report = tune_run(run, methods=("asl",)).report
    assert "asl" in report.columns
    assert "ga" not in report.columns
    assert run.tuned()["methods"] == ["asl"]


def test_runs_are_handed_on_one_after_the_other_each_complete(run, tmp_path):
    other = open_run(shutil.copytree(run.path, tmp_path / "weights" / "other"))
    for number, (done, result) in enumerate(tune_runs([run, other], methods=("bce",))):
        assert done is (run, other)[number]
        assert isinstance(result, FineTuned)
        assert done.tuned() is not None
        assert (other.tuned() is None) == (number == 0)


# ---- cft.json


def no_nan(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_cft_json_holds_every_column_and_number_and_none_for_what_is_undefined(tuned):
    run, result = tuned
    content = json.loads((run.path / "cft.json").read_text(), parse_constant=no_nan)
    assert set(content) == {
        *("model", "heads", "methods", "metric", "seed", "options", "note", "summary", "categories", "versions"),
    }
    for told, row in zip(content["categories"], result.report.to_dict("records"), strict=True):
        assert list(told) == list(row)
        assert told == {name: None if value != value else value for name, value in row.items()}
        assert told["seconds"] > 0
    columns = ["category", "method", "before", "after", "gain", "gain_low", "gain_high", "bce", "ga", "train_positives"]
    columns += ["train_negatives", "valid_positives", "valid_negatives", "seconds", "reason"]
    assert list(content["categories"][0]) == columns
    untold = {name for name, value in content["categories"][3].items() if value is None}
    assert untold == {"before", "after", "gain", "gain_low", "gain_high", "bce", "ga"}
    summary = {name: getattr(result.summary, name) for name in content["summary"]}
    assert content["summary"] == summary
    assert (summary["tried"], summary["confidence"]) == (3, 0.95)
    assert content["options"]["pulls"] == list(Options().pulls)


def test_a_run_without_a_category_to_tune_is_left_as_it_was_and_says_so(run, monkeypatch):
    known = tune.known_labels
    monkeypatch.setattr(tune, "known_labels", lambda labels: np.full_like(known(labels), np.nan))
    result = tune_run(run)
    assert (result.report["method"] == "original").all()
    content = json.loads((run.path / "cft.json").read_text(), parse_constant=no_nan)
    assert content["summary"]["tried"] == content["summary"]["tuned"] == 0
    assert content["summary"]["before"] is content["summary"]["gain"] is None
    assert run.tuned() == content


# ---- what a recipe sets


@pytest.mark.parametrize(
    "values",
    [
        {"rule": "interval"},
        {"rule": "interval", "guard": 0.99},
        {"confidence": 0.5},
        {"gamma_negative": 1.0},
        {"gamma_positive": 2.0},
        {"clip": 0.3},
        {"pulls": [1.0, 0.5]},
        {"population": 7},
        {"generations": 3},
        {"patience": 2},
    ],
    ids=" ".join,
)
def test_every_setting_of_a_recipe_reaches_the_methods(run, with_settings, outcome, by_default, values):
    changed = with_settings(run, "cft", methods=["asl", "ga"], **values)
    tune_run(changed)
    content = outcome(changed)["cft.json"]
    assert content["options"] == {**by_default["options"], **values}
    assert content["categories"] != by_default["categories"]


def test_every_option_can_be_set_by_a_recipe():
    assert {field.name for field in fields(Options)} <= set(CftSettings.model_fields)
    assert tune._options(CftSettings()) == Options()


@pytest.fixture(scope="module")
def by_default(trained, tmp_path_factory, outcome):
    """cft.json of both kinds of methods with their default options."""
    folder = tmp_path_factory.mktemp("default") / "small"
    run = open_run(shutil.copytree(trained.path, folder))
    tune_run(run, methods=("asl", "ga"))
    return outcome(run)["cft.json"]


# ---- whose heads they are


def test_a_retrained_run_is_not_tuned_until_it_is_tuned_again(tuned, tmp_path, retrain):
    shutil.copytree(tuned[0].path, tmp_path / "small")
    run = retrain(open_run(tmp_path / "small"))
    assert run.tuned() is None
    tune_run(run)
    assert run.tuned()["model"] == run.info["files"]["model.safetensors"]


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_heads_that_are_not_those_of_the_report_are_refused(tuned, tmp_path, damage):
    shutil.copytree(tuned[0].path, tmp_path / "small")
    run = open_run(tmp_path / "small")
    content = bytearray(run.heads_file.read_bytes())
    content[-1] ^= 1
    run.heads_file.unlink()
    if damage == "changed":
        run.heads_file.write_bytes(content)
    with pytest.raises(
        RunError, match=r"heads\.safetensors is missing or not what cft\.json says it is; run `cxr-cft cft .*again"
    ):
        run.tuned()


# ---- killed


class Killed(BaseException):
    """What no handler catches."""


def killed(*_):
    raise Killed


@pytest.mark.parametrize("step", ["save_tensors", "write_logits", "write_json"])
def test_killed_anywhere_a_first_tuning_counts_as_none_and_a_rerun_ends_the_same(
    tuned, run, monkeypatch, outcome, step
):
    with monkeypatch.context() as patch:
        patch.setattr(tune, step, killed)
        with pytest.raises(Killed):
            tune_run(run)
    assert open_run(run.path).tuned() is None
    tune_run(run)
    assert outcome(run) == outcome(tuned[0])


def test_killed_between_heads_and_report_a_second_tuning_is_refused_until_it_is_repeated(
    tuned, run, monkeypatch, outcome
):
    tune_run(run, methods=("asl",))
    assert outputs(run)["heads.safetensors"] != outputs(tuned[0])["heads.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(tune, "write_json", killed)
        with pytest.raises(Killed):
            tune_run(run)
    with pytest.raises(RunError, match=r"is missing or not what cft\.json says it is"):
        open_run(run.path).tuned()
    tune_run(run)
    assert outcome(run) == outcome(tuned[0])


@pytest.mark.parametrize("category", range(4))
@pytest.mark.parametrize("written", [False, True], ids=["before it is written", "after it was written"])
def test_killed_at_any_category_the_ones_before_it_are_not_tuned_again(
    tuned, run, monkeypatch, outcome, tuned_categories, category, written
):
    save = Store.save

    def killing(store, c, found):
        if written or c != category:
            save(store, c, found)
        if c == category:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", killing)
        with pytest.raises(Killed):
            tune_run(run)
    assert open_run(run.path).tuned() is None
    tuned_categories.clear()
    tune_run(run)
    assert tuned_categories == list(range(category + written, 4))
    assert outcome(run) == outcome(tuned[0])


def test_sigkill_in_the_middle_of_the_command_costs_the_category_that_was_being_tuned(
    run, tmp_path, with_settings, outcome, tuned_categories
):
    run = with_settings(run, "cft", methods=["bce", "ga"], generations=400, patience=400)  # half a second each
    whole = open_run(shutil.copytree(run.path, tmp_path / "whole" / "small"))
    command = [sys.executable, "-c", "from cxr_cft.cli.main import main; main()", "cft", str(run.path)]
    first, last = (run.path / "cft" / f"{c:04d}.safetensors" for c in (0, 3))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not first.exists():
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.005)
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not last.exists()
    assert open_run(run.path).tuned() is None
    done = {path.name: path.stat().st_mtime_ns for path in first.parent.glob("????.safetensors")}
    assert cli.run(["cft", str(run.path)]) == 0
    assert tuned_categories == list(range(len(done), 4))
    assert {name: (first.parent / name).stat().st_mtime_ns for name in done} == done
    tune_run(whole)
    assert outcome(run) == outcome(whole)


# ---- other data


def test_data_that_have_moved_are_taken_from_where_they_are_said_to_be(tuned, run, own_data, outcome):
    tune_run(run, root=own_data)
    assert outcome(run) == outcome(tuned[0])


def test_data_that_are_gone_are_asked_for(run, tmp_path):
    with pytest.raises(RunError, match=r"run small was trained on .*/nowhere, which is gone; say where .* with --data"):
        tune_run(run, root=tmp_path / "nowhere")


@pytest.mark.parametrize("split", ["train", "valid"])
def test_data_that_are_not_those_of_training_are_refused(run, own_data, change_split, split):
    change_split(own_data, split, lambda rows: rows[1:])
    with pytest.raises(
        RunError, match=r"the CSVs in .*Tiny are not those that run small was trained on; train it again"
    ):
        tune_run(run, root=own_data)
    assert run.tuned() is None


def test_heads_are_tuned_on_the_rows_that_the_backbone_saw_whatever_the_test_set_is_now(
    run, own_data, change_split, notes, tuned_categories
):
    tune_run(run, root=own_data)
    heads = run.heads_file.read_bytes()
    train = []
    change_split(own_data, "train", lambda rows: train.extend(rows) or rows)
    change_split(own_data, "test", lambda rows: rows[:-2] + train[:2])
    tune_run(run, root=own_data, progress=notes)
    assert run.heads_file.read_bytes() == heads
    assert tuned_categories == [0, 1, 2, 3]
    assert notes.told == [
        "2 patients of test.csv were trained on: patient00001, patient00002; it is not unseen",
        "features of test are computed anew: changed since: csv, rows, images",
    ]


def test_patients_that_validation_and_test_share_are_not_called_trained_on(run, own_data, change_split, notes):
    valid = []
    change_split(own_data, "valid", lambda rows: valid.extend(rows) or rows)
    change_split(own_data, "test", lambda rows: [*rows, valid[0]])
    tune_run(run, root=own_data, progress=notes)
    assert notes.told == ["1 patients of test.csv were validated on: patient00027; it is not unseen"]
