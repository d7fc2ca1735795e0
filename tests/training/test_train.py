"""Training leaves a complete run or one to be resumed, the same bytes for the same seed, and says what it cannot do."""

import csv
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cxr_cft.artifacts import fingerprint
from cxr_cft.cft.tune import tune_run
from cxr_cft.data.images import preprocessing
from cxr_cft.data.labels import CATEGORIES
from cxr_cft.errors import DataError, RunError
from cxr_cft.metrics import auroc
from cxr_cft.training import fit
from cxr_cft.training.train import train_run


class Notes:
    """Progress that keeps what is said."""

    def __init__(self):
        self.said = []

    def track(self, items, description, total, unit="steps"):  # noqa: ARG002
        yield from items

    def note(self, message):
        self.said.append(message)


class Interrupted:
    """Progress during which the process dies in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def track(self, items, description, total, unit="steps"):  # noqa: ARG002
        for number, item in enumerate(items):
            if description.startswith(f"epoch {self.epoch}/") and number == 1:
                raise KeyboardInterrupt
            yield item

    def note(self, message):
        pass


def history_of(run):
    return [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]


@pytest.fixture
def copied(data, tmp_path):
    """A copy of the data folder that a test may spoil."""
    return shutil.copytree(data, tmp_path / "copied" / data.name)


def test_a_run_folder_holds_what_later_stages_need(run, recipe, data):
    info = json.loads((run.path / "run.json").read_text())
    assert info["categories"] == list(CATEGORIES)
    assert info["recipe"] == recipe.model_dump(mode="json")
    assert info["preprocessing"] == preprocessing(32)
    assert info["data"]["root"] == str(data)
    assert info["files"]["model.safetensors"] == fingerprint(run.path / "model.safetensors")
    assert {"torch", "timm", "cxr-cft"} <= set(info["versions"])
    assert any(run.path.glob("tensorboard/events*"))
    assert not (run.path / "checkpoint").exists()
    with (run.path / "split.csv").open() as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert {split: splits.count(split) for split in set(splits)} == {
        split: len(pd.read_csv(data / f"{split}.csv")) for split in ("train", "valid", "test")
    }


def test_the_best_epochs_weights_are_kept_and_their_predictions_score_what_history_says(run, data):
    history = history_of(run)
    best = max(history, key=lambda epoch: epoch["mean_auroc"])
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert run.info["metrics"]["best_epoch"] == best["epoch"]
    predicted = pd.read_csv(run.path / "predictions" / "valid.csv")
    truth = pd.read_csv(data / "valid.csv")
    truth["Study"] = truth["Path"].str.rpartition("/")[0]
    truth = truth.groupby("Study", sort=False).first().loc[predicted["Study"]]
    for category in CATEGORIES[:11]:
        found = auroc(truth[category].to_numpy(float), predicted[category].to_numpy())
        assert found == pytest.approx(best["auroc"][category], abs=1e-9)


def test_it_learns_what_the_pictures_show(run):
    history = history_of(run)
    assert history[-1]["loss"] < history[0]["loss"]


def test_categories_without_a_known_label_are_constant_and_said_so(recipe, data, tmp_path):
    notes = Notes()
    run = train_run(recipe, "constant", data, tmp_path, progress=notes)
    unlearnt = list(CATEGORIES[11:])
    assert run.info["unlearnt"] == unlearnt
    assert any(f"predicted as a constant: {', '.join(unlearnt)}" in line for line in notes.said)
    predicted = pd.read_csv(run.path / "predictions" / "test.csv")
    assert (predicted[unlearnt] == 0.5).all(axis=None)
    assert predicted[CATEGORIES[0]].nunique() > 1
    assert all(epoch["auroc"][unlearnt[0]] is None for epoch in history_of(run))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(run, recipe, data, tmp_path):
    again = train_run(recipe, "tiny", data, tmp_path)
    for name in ("model.safetensors", "history.jsonl", "split.csv", "predictions/valid.csv", "predictions/test.csv"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()
    other = train_run(recipe.model_copy(update={"seed": 7}), "other", data, tmp_path)
    assert other.info["files"] != run.info["files"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_training_that_was_interrupted_goes_on_to_the_same_bytes(run, recipe, data, tmp_path, epoch):
    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, "tiny", data, tmp_path, progress=Interrupted(epoch))
    assert not (tmp_path / "tiny" / "run.json").exists()
    again = train_run(recipe, "tiny", data, tmp_path, resume=True)
    for name in ("model.safetensors", "history.jsonl", "predictions/valid.csv"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()


TICKING = """
from pathlib import Path
from cxr_cft.settings import load_recipe
from cxr_cft.training.train import train_run

class Ticking:
    def track(self, items, description, total, unit="steps"):
        for item in items:
            print("tick", flush=True)
            yield item

    def note(self, message):
        pass

train_run(load_recipe({recipe!r})[1], "tiny", Path({data!r}), Path({weights!r}), resume=True, progress=Ticking())
"""


def test_killed_at_any_moment_it_is_resumed_to_the_same_bytes(run, recipe_file, data, tmp_path):
    script = TICKING.format(recipe=str(recipe_file), data=str(data), weights=str(tmp_path))
    # An epoch ticks for three batches of training and one of validation: in the second batch, then among the results.
    for ticks in (2, 5):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(ticks):
            assert process.stdout.readline() == "tick\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert not (tmp_path / "tiny" / "run.json").exists()
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    for name in ("model.safetensors", "history.jsonl", "predictions/valid.csv"):
        assert (tmp_path / "tiny" / name).read_bytes() == (run.path / name).read_bytes()


def test_a_complete_run_is_never_overwritten(run, recipe, data):
    with pytest.raises(RunError, match=r"run .*tiny is complete; choose another --name"):
        train_run(recipe, "tiny", data, run.path.parent, resume=True)


def test_an_unfinished_run_is_not_begun_anew_by_accident(recipe, data, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, "tiny", data, tmp_path, progress=Interrupted(2))
    with pytest.raises(RunError, match=r"run .*tiny is unfinished; go on with it by --resume"):
        train_run(recipe, "tiny", data, tmp_path)
    changed = recipe.model_copy(update={"seed": 3})
    with pytest.raises(RunError, match="was begun with another recipe"):
        train_run(changed, "tiny", data, tmp_path, resume=True)
    (tmp_path / "tiny" / "checkpoint" / "last.pt").write_bytes(b"cut")
    with pytest.raises(RunError, match=r"last.pt is damaged; delete .*tiny and train again"):
        train_run(recipe, "tiny", data, tmp_path, resume=True)


def test_patients_of_other_splits_are_not_trained_on(recipe, copied, tmp_path):
    train, valid = (pd.read_csv(copied / f"{split}.csv", dtype=str) for split in ("train", "valid"))
    pd.concat([train, valid.head(3)]).to_csv(copied / "train.csv", index=False)
    notes = Notes()
    run = train_run(recipe, "leak", copied, tmp_path, progress=notes)
    assert "left out 3 training views of patients who are in other splits" in notes.said
    split = pd.read_csv(run.path / "split.csv")
    assert not set(split[split["split"] == "train"]["Path"]) & set(valid["Path"])


def test_images_may_lie_apart_from_the_csvs_and_later_stages_find_them(recipe, data, tmp_path):
    apart = tmp_path / "csvs"
    apart.mkdir()
    for split in ("train", "valid", "test"):
        shutil.copy(data / f"{split}.csv", apart)
    with pytest.raises(DataError, match=r"train.csv: \d+ of \d+ images are missing"):
        train_run(recipe, "apart", apart, tmp_path)
    run = train_run(recipe, "apart", apart, tmp_path, image_root=data.parent)
    tune_run(run, methods=["bce"])
    assert run.predictions("test", tuned=True).exists()


def test_a_missing_image_is_named_before_anything_is_written(recipe, copied, tmp_path):
    first = pd.read_csv(copied / "train.csv")["Path"][5]
    (copied.parent / first).unlink()
    with pytest.raises(DataError, match=rf"train.csv: 1 of \d+ images are missing: {first}"):
        train_run(recipe, "missing", copied, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_an_unreadable_image_ends_training_with_its_name_and_nothing_complete(recipe, copied, tmp_path):
    first = pd.read_csv(copied / "train.csv")["Path"][5]
    (copied.parent / first).write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"train.csv: image .*{first} cannot be read"):
        train_run(recipe, "broken", copied, tmp_path / "weights")
    assert not (tmp_path / "weights" / "broken" / "run.json").exists()


def test_labels_that_can_teach_nothing_are_refused(recipe, copied, tmp_path):
    frame = pd.read_csv(copied / "valid.csv")
    frame[list(CATEGORIES)] = 0.0
    frame.to_csv(copied / "valid.csv", index=False)
    with pytest.raises(DataError, match=r"valid.csv has no category with both a positive and a negative study"):
        train_run(recipe, "x", copied, tmp_path)
    frame = pd.read_csv(copied / "train.csv")
    frame[list(CATEGORIES)] = np.nan
    frame.to_csv(copied / "train.csv", index=False)
    with pytest.raises(DataError, match=r"train.csv has no known label in any of"):
        train_run(recipe, "x", copied, tmp_path)


def test_a_loss_that_is_not_finite_ends_with_what_to_change(recipe, data, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "masked_bce", lambda logits, targets, mask: (logits * float("nan")).sum())  # noqa: ARG005
    with pytest.raises(RunError, match=r"in epoch 1 the loss is nan; try a lower training.lr than 0.003"):
        train_run(recipe, "nan", data, tmp_path)


def test_an_update_that_blows_the_weights_up_ends_the_same_way(recipe, data, tmp_path):
    training = recipe.training.model_copy(update={"lr": 1e30, "epochs": 1, "batch_size": 64})
    with pytest.raises(RunError, match=r"in epoch 1 the .* not finite; try a lower training.lr than 1e\+30"):
        train_run(recipe.model_copy(update={"training": training}), "blown", data, tmp_path)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.1), (2, 0.5), (10, 0.1), (10, 0.0), (10, 0.99)])
def test_the_learning_rate_rises_to_its_peak_and_falls_for_any_number_of_steps(steps, warmup):
    rates = [fit._learning_rate(step, steps, warmup) for step in range(steps + 1)]
    peak = rates.index(max(rates))
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert max(rates) == 1
    assert rates[0] == pytest.approx(1 / 25)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_a_name_that_no_later_stage_would_find_is_refused(recipe, data, tmp_path, name):
    with pytest.raises(RunError, match="is no name for a folder"):
        train_run(recipe, name, data, tmp_path)


def test_killed_between_two_writes_the_history_is_whole_after_resuming(run, recipe, data, tmp_path, monkeypatch):
    save = torch.save
    calls = []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        save(*arguments)

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_run(recipe, "tiny", data, tmp_path)
    monkeypatch.undo()
    again = train_run(recipe, "tiny", data, tmp_path, resume=True)
    for name in ("history.jsonl", "model.safetensors"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()


def test_workers_do_not_change_a_byte(run, recipe, data, tmp_path):
    training = recipe.training.model_copy(update={"workers": 1})
    other = train_run(recipe.model_copy(update={"training": training}), "workers", data, tmp_path)
    ours, theirs = (load_file(each.model_file) for each in (run, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_pictures_of_any_kind_can_be_trained_on(recipe, copied, tmp_path):
    paths = pd.read_csv(copied / "train.csv")["Path"]
    for path, mode in zip(paths, ("RGB", "RGBA", "P", "I;16"), strict=False):
        with Image.open(copied.parent / path) as image:
            changed = (
                image.convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(image).astype(np.uint16) * 256)
            )
        changed.save(copied.parent / path)
    run = train_run(recipe, "modes", copied, tmp_path)
    assert set(pd.read_csv(run.path / "split.csv").query("split == 'train'")["Path"]) == set(paths)
