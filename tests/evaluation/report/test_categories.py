"""Per category: what the headline's curves and calibration rest on, label states, and the gain of CFT."""

import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import auc, brier_score_loss, roc_auc_score

from cxr_cft.data.labels import CATEGORIES, COMPETITION
from cxr_cft.data.predictions import read_predictions, write_predictions
from cxr_cft.data.table import read_frame
from cxr_cft.data.truth import read_labels
from cxr_cft.evaluation.report.gather import gather_facts
from cxr_cft.metrics import auroc, radiologist_points, radiologists_under_roc


@pytest.fixture(scope="module")
def of_tuned(artefacts, tmp_path_factory):
    """Facts whose headline is the tuned run: there is no ensemble file."""
    weights = tmp_path_factory.mktemp("of_tuned") / "weights"
    shutil.copytree(artefacts.weights, weights)
    (weights / "ensemble.json").unlink()
    facts = gather_facts(weights, artefacts.submissions)
    [headline] = [entry for entry in facts.entries if entry.headline]
    assert headline.name == "tiny.cft"
    return facts


@pytest.fixture(scope="module")
def truth(artefacts):
    return read_labels(artefacts.data / "test.csv", CATEGORIES)


@pytest.fixture(scope="module")
def scores(artefacts):
    """A function: a head's scores of the test studies, by category."""

    def scores(run, file, truth):
        found = read_predictions(artefacts.weights / run / "predictions" / file, CATEGORIES)
        return dict(zip(CATEGORIES, found.rows(truth.studies).T, strict=True))

    return scores


def test_curves_enclose_the_auroc_and_before_is_the_trained_head(of_tuned, truth, scores):
    after, before = (scores("tiny", file, truth) for file in ("test.cft.csv", "test.csv"))
    assert of_tuned.categories
    for category in of_tuned.categories:
        labels = truth.labels[:, CATEGORIES.index(category.name)]
        assert category.auroc.value == pytest.approx(roc_auc_score(labels, after[category.name]))
        assert auc(category.roc.x, category.roc.y) == pytest.approx(category.auroc.value)
        area = roc_auc_score(labels, before[category.name])
        assert auc(category.before.x, category.before.y) == pytest.approx(area)
        assert category.precision_recall.x.max() == 1
        assert (category.positives, category.negatives) == ((labels == 1).sum(), (labels == 0).sum())


def test_there_is_no_curve_before_an_ensemble(facts):
    assert all(category.before is None for category in facts.categories)


def test_the_gain_of_cft_is_the_reports_and_the_change_on_what_is_measured(facts, artefacts, truth, scores):
    rows = {
        row["category"]: row for row in json.loads((artefacts.weights / "tiny" / "cft.json").read_text())["categories"]
    }
    after, before = (scores("tiny", file, truth) for file in ("test.cft.csv", "test.csv"))
    changed = 0
    for category in facts.categories:
        [gain] = category.cft
        assert gain.metric == "auroc"
        row = rows[category.name]
        assert (gain.run, gain.method, gain.before, gain.after) == ("tiny", row["method"], row["before"], row["after"])
        labels = truth.labels[:, CATEGORIES.index(category.name)]
        change = auroc(labels, after[category.name]) - auroc(labels, before[category.name])
        assert gain.measured.value == pytest.approx(change, abs=1e-12)
        assert gain.measured.low <= gain.measured.value <= gain.measured.high
        changed += change != 0
        if row["gain"] is None:
            assert np.isnan(gain.gain.value)
        else:
            assert (gain.gain.value, gain.gain.low) == (row["gain"], row["gain_low"])
    assert changed


def test_states_are_counted_in_every_split(facts, artefacts):
    words = [("1.0", "True"), ("0.0", "False"), ("-1.0",), ("",)]
    for split in ("train", "valid", "test"):
        frame = read_frame(artefacts.data / f"{split}.csv")
        for category in facts.categories:
            column = frame[category.name]
            counts = tuple(int(column.isin([*each, each[0].rstrip("0").rstrip(".")]).sum()) for each in words[:3])
            assert category.states[split][:3] == counts
            assert sum(category.states[split]) == len(frame)
    [folder] = facts.folders
    assert folder.states["train"]["Edema"] == next(c for c in facts.categories if c.name == "Edema").states["train"]
    assert folder.splits["test"].views == len(read_frame(artefacts.data / "test.csv"))
    assert folder.runs == ("other", "tiny")
    assert not folder.shared


def test_radiologists_stand_against_the_competitions_five_alone(of_tuned, truth, scores):
    found = scores("tiny", "test.cft.csv", truth)
    for category in of_tuned.categories:
        if category.name in COMPETITION:
            points = radiologist_points()[category.name]
            labels = truth.labels[:, CATEGORIES.index(category.name)]
            assert category.radiologists == points
            assert category.under_roc == radiologists_under_roc(labels, found[category.name], points)
        else:
            assert (category.radiologists, category.under_roc) == ((), None)


def test_calibration_is_of_probabilities_alone(of_tuned, artefacts, truth, scores, tmp_path):
    found = scores("tiny", "test.cft.csv", truth)
    for category in of_tuned.categories:
        labels = truth.labels[:, CATEGORIES.index(category.name)]
        assert category.reliability.brier.value == pytest.approx(brier_score_loss(labels, found[category.name]))
        assert category.reliability.counts.sum() == len(labels)
        assert category.reliability.brier.low <= category.reliability.brier.value <= category.reliability.brier.high
    logits = np.column_stack([10 * found[name] - 5 for name in CATEGORIES])
    write_predictions(tmp_path / "logits.csv", truth.studies, CATEGORIES, logits)
    (tmp_path / "none").mkdir()
    facts = gather_facts(
        tmp_path / "none",
        tmp_path / "none",
        labels=artefacts.data / "test.csv",
        predictions=[str(tmp_path / "logits.csv")],
    )
    assert facts.categories
    assert all(category.reliability is None for category in facts.categories)
