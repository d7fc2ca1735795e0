"""Tuning a run: what it writes, what it refuses, and that it can be killed anywhere."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.special import expit

from cxr_cft.artifacts import open_run
from cxr_cft.cft import tune, tune_run
from cxr_cft.data.predictions import read_predictions
from cxr_cft.data.splits import read_splits
from cxr_cft.errors import RunError
from cxr_cft.training.inference import predict_logits

OUTPUTS = ("heads.safetensors", "cft.json", "predictions/valid.cft.csv", "predictions/test.cft.csv")


@pytest.fixture(scope="module")
def tuned(trained, tmp_path_factory):
    """(run, report) of a tuned copy of the run; no test writes to it."""
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
    assert names == {"valid.csv", "valid.cft.csv", "test.csv", "test.cft.csv"}
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


def test_categories_that_were_left_predict_what_they_did_before(tuned):
    run, report = tuned
    before, after = scores(run, "valid", tuned=False), scores(run, "valid", tuned=True)
    assert before.studies == after.studies
    left = (report["method"] == "original").to_numpy()
    assert left.any()
    assert not left.all()
    np.testing.assert_allclose(after.scores[:, left], before.scores[:, left], rtol=1e-5)
    assert (np.abs(after.scores[:, ~left] - before.scores[:, ~left]).max(axis=0) > 1e-4).all()


def test_a_category_without_labels_is_predicted_as_a_constant(tuned):
    run, report = tuned
    assert report.set_index("category").loc["Fracture", "reason"].startswith("no known labels in training")
    assert set(scores(run, "valid", tuned=True).scores[:, 3]) == {0.5}


def test_uncertain_labels_and_patients_of_other_splits_are_not_tuned_on(tuned):
    _, report = tuned
    edema = report.set_index("category").loc["Edema"]
    # 24 of 26 rows of training are no test patient's; of those every fourth is uncertain.
    assert edema["train_positives"] + edema["train_negatives"] == 18
    assert edema["valid_positives"] + edema["valid_negatives"] == 9
    atelectasis = report.set_index("category").loc["Atelectasis"]
    assert (atelectasis["train_positives"], atelectasis["train_negatives"]) == (12, 12)


def test_cft_json_is_the_report_and_says_whose_heads_these_are(tuned):
    run, report = tuned
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
    assert "seconds" not in told


def test_no_category_falls_on_validation(tuned):
    _, report = tuned
    known = report.dropna(subset="before")
    assert len(known) == 3
    assert (known["after"] >= known["before"]).all()


def test_a_rerun_writes_the_same_bytes_from_the_cached_features(tuned, run, monkeypatch):
    tune_run(run)
    first = outputs(run)
    assert first == outputs(tuned[0])
    monkeypatch.setattr("cxr_cft.cft.features.over_table", None)
    tune_run(run)
    assert outputs(run) == first


def test_the_recipes_methods_give_way_to_the_callers(run):
    report = tune_run(run, methods=("asl",))
    assert "asl" in report.columns
    assert "ga" not in report.columns
    assert run.tuned()["methods"] == ["asl"]


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


class Killed(BaseException):
    """What no handler catches."""


@pytest.mark.parametrize("step", ["save_tensors", "write_logits", "write_json"])
def test_killed_anywhere_a_first_tuning_counts_as_none_and_a_rerun_ends_the_same(tuned, run, monkeypatch, step):
    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tune, step, killed)
        with pytest.raises(Killed):
            tune_run(run)
    assert open_run(run.path).tuned() is None
    tune_run(run)
    assert outputs(run) == outputs(tuned[0])


def test_killed_between_heads_and_report_a_second_tuning_is_refused_until_it_is_repeated(tuned, run, monkeypatch):
    tune_run(run, methods=("asl",))
    assert outputs(run)["heads.safetensors"] != outputs(tuned[0])["heads.safetensors"]

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tune, "write_json", killed)
        with pytest.raises(Killed):
            tune_run(run)
    with pytest.raises(RunError, match=r"is missing or not what cft\.json says it is"):
        open_run(run.path).tuned()
    tune_run(run)
    assert outputs(run) == outputs(tuned[0])


def test_data_that_have_moved_are_taken_from_where_they_are_said_to_be(tuned, run, own_data):
    tune_run(run, root=own_data)
    assert outputs(run) == outputs(tuned[0])


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


def test_heads_are_tuned_on_the_rows_that_the_backbone_saw_whatever_the_test_set_is_now(run, own_data, change_split):
    tune_run(run, root=own_data)
    heads = run.heads_file.read_bytes()
    train = []
    change_split(own_data, "train", lambda rows: train.extend(rows) or rows)
    change_split(own_data, "test", lambda rows: rows[:-2] + train[:2])
    notes = []

    class Notes:
        def track(self, items, *_, **__):
            yield from items

        def note(self, message):
            notes.append(message)

    tune_run(run, root=own_data, progress=Notes())
    assert run.heads_file.read_bytes() == heads
    assert notes == ["2 patients of test.csv were trained on: patient00001, patient00002; it is not unseen"]


def test_patients_that_validation_and_test_share_are_not_called_trained_on(run, own_data, change_split):
    valid = []
    change_split(own_data, "valid", lambda rows: valid.extend(rows) or rows)
    change_split(own_data, "test", lambda rows: [*rows, valid[0]])
    notes = []

    class Notes:
        def track(self, items, *_, **__):
            yield from items

        def note(self, message):
            notes.append(message)

    tune_run(run, root=own_data, progress=Notes())
    assert notes == ["1 patients of test.csv were validated on: patient00027; it is not unseen"]
