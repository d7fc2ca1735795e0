"""The facts of a page: numbers to the last digit, an honest ground and headline, and lines for what is not there."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from cxr_cft.artifacts import fingerprint, write_csv
from cxr_cft.data.labels import CATEGORIES, COMPETITION
from cxr_cft.data.predictions import read_predictions, write_predictions
from cxr_cft.data.table import patient_of
from cxr_cft.data.truth import read_labels
from cxr_cft.ensemble.apply import blend_csvs
from cxr_cft.ensemble.file import CANDIDATES, Searched, read_ensemble, write_ensemble
from cxr_cft.errors import CxrCftError, DataError, PredictionsError
from cxr_cft.evaluation.report.gather import gather_facts
from cxr_cft.evaluation.score import score_file


def entry(facts, name):
    return next(each for each in facts.entries if name in (each.name, *each.about.rpartition("digit: ")[2].split("; ")))


def same(estimate, value, ends):
    np.testing.assert_array_equal([estimate.value, estimate.low, estimate.high], [value, *ends])


def assert_scored(found, file, truth, scored):
    """An entry's numbers are those of `score_file`, of the mean and of every category."""
    of_scored = score_file(file, truth, scored)
    same(found.mean, of_scored.mean_auroc, of_scored.mean_interval)
    every = score_file(file, truth, "all")
    assert list(found.auroc)[:5] == list(COMPETITION)
    for name, estimate in found.auroc.items():
        same(estimate, every.auroc[name], every.interval[name])
        same(found.average_precision[name], every.average_precision[name], every.average_precision_interval[name])


@pytest.mark.parametrize(("name", "file"), [("tiny", "test.csv"), ("tiny.cft", "test.cft.csv"), ("other", "test.csv")])
def test_a_head_has_the_numbers_of_score(facts, artefacts, name, file):
    folder = artefacts.weights / name.removesuffix(".cft") / "predictions"
    assert_scored(entry(facts, name), folder / file, artefacts.data / "test.csv", facts.measured.scored)


@pytest.mark.parametrize("use", CANDIDATES)
def test_a_candidate_has_the_numbers_of_its_blend(facts, artefacts, tmp_path, use):
    ensemble = read_ensemble(artefacts.weights / "ensemble.json").using(use)
    files = [
        f"{artefacts.weights}/{run}/predictions/test.views{head}.csv"
        for run, head in [("tiny", ""), ("tiny", ".cft"), ("other", "")]
    ]
    blend_csvs(ensemble, files, tmp_path / "blend.csv")
    found = entry(facts, f"ensemble: {CANDIDATES[use]}")
    assert_scored(found, tmp_path / "blend.csv", artefacts.data / "test.csv", facts.measured.scored)


def test_validation_is_the_mean_of_the_same_categories_on_valid(facts, artefacts):
    path = artefacts.weights / "tiny" / "predictions" / "valid.cft.csv"
    expected = score_file(path, artefacts.data / "valid.csv", facts.measured.scored).mean_auroc
    assert entry(facts, "tiny.cft").validation == pytest.approx(expected, abs=1e-12)
    ensemble = read_ensemble(artefacts.weights / "ensemble.json")
    assert set(ensemble.scored) == set(facts.measured.scored)
    for use, candidate in ensemble.candidates.items():
        assert entry(facts, f"ensemble: {CANDIDATES[use]}").validation == pytest.approx(candidate.fitted, abs=1e-12)


def test_what_is_measured_is_counted(facts, artefacts):
    truth = read_labels(artefacts.data / "test.csv", CATEGORIES)
    measured = facts.measured
    assert (measured.split, measured.source) == ("test", str(artefacts.data / "test.csv"))
    assert measured.studies == len(truth.studies)
    assert measured.patients == len({patient_of(study) for study in truth.studies})
    assert measured.scored == COMPETITION
    assert measured.left_out == CATEGORIES[11:]
    for c, name in enumerate(CATEGORIES):
        assert measured.positives[name] == (truth.labels[:, c] == 1).sum()
        assert measured.negatives[name] == (truth.labels[:, c] == 0).sum()
    assert [category.name for category in facts.categories] == [
        *COMPETITION,
        "No Finding",
        *CATEGORIES[1:2],
        *(name for name in CATEGORIES[2:11] if name not in COMPETITION),
    ]


def test_the_same_artefacts_give_the_same_facts(facts, artefacts):
    assert repr(artefacts.facts()) == repr(facts)
    assert facts.made == ""


def test_unseen_is_said_of_studies_that_chose_nothing(facts):
    assert facts.measured.unseen
    assert "none chose an epoch" in facts.measured.note
    assert "optimistic" not in facts.headline
    assert f" of {facts.measured.patients} patients of made/test.csv; none of them trained" in facts.headline


@pytest.mark.usefixtures("leaderboard_alone")
def test_without_a_labelled_test_csv_validation_is_measured_and_called_optimistic(copied, tmp_path):
    data = shutil.copytree(copied.data, tmp_path / copied.data.name)
    (data / "test.csv").unlink()
    facts = copied.facts(data=data)
    assert (facts.measured.split, facts.measured.unseen) == ("valid", False)
    assert "chosen on these very studies" in facts.measured.note
    assert "optimistic" in facts.headline
    assert any("There is no" in line and "test.csv" in line for line in facts.missing)
    for each in facts.entries:
        if each.validation is not None:
            assert each.mean.value == pytest.approx(each.validation, abs=1e-12)


@pytest.mark.usefixtures("leaderboard_alone")
def test_a_test_csv_of_one_class_is_not_measured_on(copied, tmp_path):
    data = shutil.copytree(copied.data, tmp_path / copied.data.name)
    with (data / "test.csv").open() as file:
        header, *rows = csv.reader(file)
    write_csv(data / "test.csv", header, [[*row[:5], *["0"] * (len(row) - 5)] for row in rows])
    facts = copied.facts(data=data)
    assert facts.measured.split == "valid"
    assert any("no category with both" in line for line in facts.missing)


@pytest.mark.usefixtures("leaderboard_alone")
def test_patients_that_a_run_was_trained_or_validated_on_are_found(artefacts, tmp_path):
    valid, test, train = (
        read_labels(artefacts.data / f"{split}.csv", CATEGORIES) for split in ("valid", "test", "train")
    )
    whole = artefacts.facts(labels=artefacts.data / "valid.csv").measured
    patients = len({patient_of(study) for study in valid.studies})
    assert not whole.unseen
    assert f"{patients} of the {patients} patients" in whole.note
    assert "searched on these very labels" in whole.note

    rows = list(zip(test.studies, test.labels, strict=True))
    rows.append((f"elsewhere/{patient_of(train.studies[0])}/study9", train.labels[0]))
    labels = tmp_path / "labels.csv"
    write_csv(labels, ["Study", *CATEGORIES], [[s, *("" if np.isnan(x) else int(x) for x in row)] for s, row in rows])
    scores = np.random.default_rng(0).random((len(rows), len(CATEGORIES)))
    write_predictions(tmp_path / "guess.csv", [study for study, _ in rows], CATEGORIES, scores)
    facts = artefacts.facts(labels=labels, predictions=[str(tmp_path / "guess.csv")])
    assert not facts.measured.unseen
    assert f"1 of the {patients_of(rows)} patients, by their names, were trained or validated on" in facts.measured.note
    assert "optimistic" in facts.headline


def patients_of(rows):
    return len({patient_of(study) for study, _ in rows})


@pytest.mark.usefixtures("leaderboard_alone")
def test_weights_that_were_searched_on_the_measured_labels_are_found(copied):
    path = copied.weights / "ensemble.json"
    source = copied.data / "test.csv"
    searched = Searched(source=str(source), fingerprint=fingerprint(source))
    write_ensemble(path, read_ensemble(path).model_copy(update={"labels": searched}))
    measured = copied.facts().measured
    assert not measured.unseen
    assert "ensemble.json were searched on these very labels" in measured.note

    older = read_ensemble(path).model_copy(update={"labels": None})
    write_ensemble(path, older)
    silent = copied.facts()
    assert (silent.measured.unseen, silent.measured.known) == (False, False)
    assert "ensemble.json is of an older version" in silent.measured.note
    assert ", which the search recommended, has" in silent.headline
    assert silent.headline.endswith("; whether these studies chose anything is not known.")
    counted = {name: measured.positives[name] for name in older.positives}
    size = {"studies": measured.studies, "patients": measured.patients, "positives": counted}
    write_ensemble(path, older.model_copy(update=size))
    alike = copied.facts().measured
    assert "by their numbers" in alike.note
    assert (alike.unseen, alike.known) == (False, True)


@pytest.mark.usefixtures("leaderboard_alone")
def test_labels_that_weights_were_searched_on_are_known_only_while_they_are_what_they_were(copied, tmp_path):
    path, own = copied.weights / "ensemble.json", tmp_path / "own.csv"
    text = (copied.data / "valid.csv").read_text()
    own.write_text(text + "\n")
    searched = Searched(source=str(own), fingerprint=fingerprint(own))
    write_ensemble(path, read_ensemble(path).model_copy(update={"labels": searched}))
    facts = copied.facts()
    assert facts.measured.unseen
    assert "which the search recommended" in facts.headline

    header, *rows = (copied.data / "test.csv").read_text().splitlines()
    own.write_text("\n".join([header, rows[0], *text.splitlines()[1:]]) + "\n")
    changed = copied.facts().measured
    assert (changed.unseen, changed.known) == (False, False)
    assert "on whom the weights of ensemble.json were searched is not known" in changed.note
    write_ensemble(
        path, read_ensemble(path).model_copy(update={"labels": Searched(source=str(own), fingerprint=fingerprint(own))})
    )
    assert "ensemble.json were searched on 1 of the patients" in copied.facts().measured.note
    own.unlink()
    assert not copied.facts().measured.known

    moved = Searched(source="/gone/valid.csv", fingerprint=fingerprint(copied.data / "valid.csv"))
    write_ensemble(path, read_ensemble(path).model_copy(update={"labels": moved}))
    assert copied.facts().measured.unseen


@pytest.mark.usefixtures("leaderboard_alone")
def test_runs_that_lie_elsewhere_say_whom_they_saw(artefacts, copied, tmp_path):
    alone = replace(copied, weights=tmp_path / "alone", submissions=tmp_path / "none")
    alone.weights.mkdir()
    shutil.copy(copied.weights / "ensemble.json", alone.weights)
    assert alone.facts(labels=artefacts.data / "test.csv").measured.unseen

    part = tmp_path / "part.csv"
    part.write_text("".join((artefacts.data / "valid.csv").read_text().splitlines(keepends=True)[:-3]))
    facts = alone.facts(labels=part)
    number = facts.measured.patients
    assert (facts.measured.unseen, facts.measured.known) == (False, True)
    assert f"{number} of the {number} patients, by their names, were trained or validated on by" in facts.measured.note
    assert f"searched on {number} of the patients" in facts.measured.note
    assert facts.headline.endswith("; optimistic, as these studies are not unseen.")

    (copied.weights / "tiny" / "split.csv").unlink()
    measured = alone.facts(labels=artefacts.data / "test.csv").measured
    assert (measured.unseen, measured.known) == (False, False)
    assert "whom tiny learnt from is not known" in measured.note


@pytest.mark.usefixtures("leaderboard_alone")
def test_what_csvs_of_an_ensemble_have_seen_is_not_known(copied):
    path = copied.weights / "ensemble.json"
    ensemble = read_ensemble(path)
    files = [f"other={copied.weights}/other/predictions/test.csv"]
    foreign = {"kind": "csv", "source": "/gone/other.csv", "by_view": False}
    members = [each.model_copy(update=foreign if each.name == "other" else {}) for each in ensemble.members]
    written = ensemble.model_copy(update={"members": tuple(members), "aggregation": "max"})
    write_ensemble(path, written.using("equal"))
    facts = copied.facts(predictions=files)
    [headline] = [each for each in facts.entries if each.headline]
    assert headline.kind == "ensemble"
    assert (facts.measured.unseen, facts.measured.known) == (False, False)
    assert "nothing is known of what other has seen" in facts.measured.note
    assert facts.headline.endswith("; whether these studies chose anything is not known.")

    row = dict.fromkeys(ensemble.categories, 1.0)
    weights = {each.name: row if each.name == "tiny" else dict.fromkeys(row, 0.0) for each in members}
    single = ensemble.candidates["equal"].model_copy(update={"weights": weights})
    write_ensemble(
        path, written.model_copy(update={"candidates": {**ensemble.candidates, "best": single}}).using("best")
    )
    assert copied.facts().measured.unseen  # the CSV has no part in the headline


@pytest.mark.usefixtures("leaderboard_alone")
def test_a_run_that_does_not_say_whom_it_saw_leaves_it_open(copied):
    (copied.weights / "other" / "split.csv").unlink()
    measured = copied.facts().measured
    assert (measured.unseen, measured.known) == (False, False)
    assert "whom other learnt from is not known" in measured.note


@pytest.mark.usefixtures("leaderboard_alone")
def test_the_headline_is_not_chosen_by_the_measured_numbers(artefacts, tmp_path):
    truth = read_labels(artefacts.data / "test.csv", CATEGORIES)
    scores = np.nan_to_num(truth.labels) * 0.5 + 0.25
    # Perfect but for the first positive of each category, which comes last: of a perfect one there is no p.
    scores[(truth.labels == 1).argmax(axis=0), np.arange(len(truth.categories))] = 0
    write_predictions(tmp_path / "perfect.csv", truth.studies, truth.categories, scores)
    facts = artefacts.facts(predictions=[f"oracle={tmp_path / 'perfect.csv'}"])
    assert facts.entries[0].name == "oracle"
    worth = np.mean([1 - 1 / facts.measured.positives[name] for name in facts.measured.scored])
    assert facts.entries[0].mean.value == pytest.approx(worth)
    [headline] = [each for each in facts.entries if each.headline]
    ensemble = read_ensemble(artefacts.weights / "ensemble.json")
    assert headline.name == f"ensemble: {CANDIDATES[ensemble.chosen]}"
    weights = CANDIDATES[ensemble.chosen]
    assert facts.headline.startswith(f"The ensemble ({weights}), which validation recommended, has a mean AUROC of ")
    assert f"{headline.mean.value:.4f}" in facts.headline
    assert headline.difference is None
    difference = facts.entries[0].difference
    assert difference.value == pytest.approx(worth - headline.mean.value)
    assert 0 < facts.entries[0].difference_p <= 1


@pytest.mark.usefixtures("leaderboard_alone")
def test_the_headline_is_the_candidate_in_use(copied):
    path = copied.weights / "ensemble.json"
    ensemble = read_ensemble(path)
    assert ensemble.recommended != "isotonic"
    write_ensemble(path, ensemble.using("isotonic"))
    write_ensemble(copied.weights / "another.json", ensemble)
    facts = copied.facts()
    [headline] = [each for each in facts.entries if each.headline]
    assert headline.name == f"ensemble: {CANDIDATES['isotonic']}"
    assert "which was put in use by hand" in facts.headline


@pytest.mark.usefixtures("leaderboard_alone")
def test_where_the_ensemble_in_use_has_no_numbers_the_headline_says_that_it_stands_in(copied):
    path = copied.weights / "other" / "predictions" / "test.csv"
    path.write_text(path.read_text()[:-40])
    (copied.weights / "other" / "predictions" / "test.views.csv").unlink()
    facts = copied.facts()
    assert "standing in for the ensemble in use, which has no numbers here, has a mean AUROC of" in facts.headline
    [line] = [line for line in facts.missing if line.startswith("other has no numbers: ")]
    assert "is the file cut?" in line


@pytest.mark.usefixtures("leaderboard_alone")
def test_an_ensemble_file_that_cannot_be_read_is_said_once(copied):
    (copied.weights / "ensemble.json").write_text("{")
    lines = [line for line in copied.facts().missing if "ensemble.json is" in line or "no ensemble file" in line]
    assert len(lines) == 1


@pytest.mark.usefixtures("leaderboard_alone")
def test_a_copy_is_reported_from_its_own_runs(artefacts, copied):
    file = copied.weights / "ensemble.json"
    file.write_text((artefacts.weights / "ensemble.json").read_text())  # which names the first folder's runs
    for path in copied.weights.glob("*/predictions/test*.csv"):
        path.unlink()
    facts = copied.facts()
    assert all(each.mean is None for each in facts.entries)


@pytest.mark.usefixtures("leaderboard_alone")
def test_without_an_ensemble_the_headline_is_the_head_that_is_best_on_validation(copied):
    (copied.weights / "ensemble.json").unlink()
    facts = copied.facts()
    heads = {each.name: each.validation for each in facts.entries if each.kind in ("run", "cft")}
    [headline] = [each for each in facts.entries if each.headline]
    assert len(heads) == 3
    assert headline.validation == max(heads.values())
    assert "best of 3 heads on validation" in facts.headline
    assert any("cxr-cft ensemble" in line for line in facts.missing)


@pytest.mark.usefixtures("leaderboard_alone")
def test_equal_entries_are_one_that_names_the_others(copied, facts):
    shutil.copy(copied.weights / "tiny" / "predictions" / "test.csv", copied.weights / "again.csv")
    found = copied.facts()
    assert len(found.entries) == len(facts.entries)
    assert "the same to the last digit: again" in entry(found, "tiny").about
    moved = read_predictions(copied.weights / "again.csv", CATEGORIES)
    write_predictions(copied.weights / "again.csv", moved.studies, CATEGORIES, moved.scores + 1e-7)
    found = copied.facts()
    assert len(found.entries) == len(facts.entries) + 1
    assert "within 1.0e-07 of tiny" in entry(found, "again").about


@pytest.mark.usefixtures("leaderboard_alone")
def test_what_is_damaged_or_foreign_is_a_line(copied):
    weights, submissions = copied.weights, copied.submissions
    (weights / "other" / "model.safetensors").write_bytes(b"no")
    (weights / "tiny" / "heads.safetensors").write_bytes(b"no")
    (weights / "tiny" / "history.jsonl").write_text("{")
    (weights / "ensemble.json").write_text("{}")
    (weights / "notes.json").write_text('{"a": 1}')
    (weights / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    (weights / "header.csv").write_text("Study,Edema\n")
    (weights / "words.csv").write_text("Study,Edema\nmine,high\n")
    (submissions / "elsewhere.csv").write_text("Study,Edema\nmine,1\n")
    shutil.copy(copied.data / "valid.csv", weights / "valid.csv")
    (submissions / "made" / "predict.py").write_text("")
    (weights / "begun" / "checkpoint").mkdir(parents=True)
    for name, content in {"list": "[]", "form": '{"files": []}', "half": "{"}.items():
        (weights / name).mkdir()
        (weights / name / "run.json").write_text(content)
    facts = copied.facts()
    [only] = facts.entries
    assert (only.name, only.kind, only.headline) == ("tiny", "run", True)
    for line in (
        "Run other is left out: ",
        "Run list is left out: ",
        "Run form is left out: ",
        "Run half is left out: ",
        "The tuned heads of run tiny are left out: ",
        "The training curves of tiny are left out: ",
        "The training of begun has not ended",
        "ensemble.json is left out: ",
        "notes.json is left out: ",
        "bytes.csv is left out: ",
        "words.csv is left out: ",
        "valid.csv is left out: ",
        "of other studies than test.csv: ",
        "Bundle made is left out: ",
    ):
        assert sum(line in told for told in facts.missing) == 1, (line, facts.missing)


@pytest.mark.usefixtures("leaderboard_alone")
def test_predictions_that_cannot_be_read_say_why(copied):
    (copied.weights / "other" / "predictions" / "test.csv").write_text("Study,Edema\nmine,high\n")
    other = entry(copied.facts(), "other")
    assert other.mean is None
    assert "predictions/test.csv, line 2, Edema: 'high' is no finite number" in other.why


@pytest.mark.usefixtures("leaderboard_alone")
def test_a_csv_that_holds_the_labels_is_no_entry(copied):
    truth = read_labels(copied.data / "test.csv", COMPETITION)
    write_predictions(copied.weights / "cheat.csv", truth.studies, truth.categories, truth.labels)
    facts = copied.facts()
    assert "cheat" not in {each.name for each in facts.entries}
    assert any("holds the labels" in line for line in facts.missing)


def test_nothing_at_all_says_what_to_do(tmp_path):
    with pytest.raises(CxrCftError, match=r"there is nothing to report on in .*`cxr-cft train"):
        gather_facts(tmp_path / "weights", tmp_path / "submissions")


@pytest.mark.usefixtures("leaderboard_alone")
def test_csvs_alone_are_measured_on_given_labels(artefacts, copied):
    shutil.rmtree(copied.weights)
    shutil.rmtree(copied.submissions)
    file = artefacts.weights / "tiny" / "predictions" / "test.csv"
    facts = copied.facts(labels=artefacts.data / "test.csv", predictions=[f"mine={file}"])
    [only] = facts.entries
    assert only.headline
    assert only.name == "mine"
    expected = score_file(file, artefacts.data / "test.csv", facts.measured.scored)
    assert only.mean.value == expected.mean_auroc
    assert "nothing is known of what mine has seen" in facts.measured.note
    assert (facts.measured.unseen, facts.measured.known) == (False, False)
    assert "what the CSV has seen is not known" in facts.headline
    with pytest.raises(CxrCftError, match="--labels"):
        copied.facts(predictions=[str(file)])


@pytest.mark.usefixtures("leaderboard_alone")
def test_a_data_folder_that_is_gone_is_said_and_can_be_named_anew(copied, artefacts):
    for run in ("tiny", "other"):
        path = copied.weights / run / "run.json"
        info = json.loads(path.read_text())
        info["data"]["root"] = "/gone/made"
        path.write_text(json.dumps(info))
    facts = copied.facts()
    assert facts.measured is None
    assert facts.headline.startswith("Nothing is measured")
    assert not facts.entries
    assert len(facts.trainings) == 2
    assert any("/gone/made" in line and "--data" in line for line in facts.missing)
    assert copied.facts(data=artefacts.data).entries


def test_given_files_that_do_not_fit_are_refused(artefacts, tmp_path):
    valid = artefacts.weights / "tiny" / "predictions" / "valid.csv"
    with pytest.raises(PredictionsError, match="studies"):
        artefacts.facts(predictions=[f"mine={valid}"])
    with pytest.raises(PredictionsError, match="mine is given twice"):
        artefacts.facts(predictions=[f"mine={valid}", f"mine={valid}"])
    with pytest.raises(PredictionsError, match=r"=\S+ has no name before the =; give NAME="):
        artefacts.facts(predictions=[f"={valid}"])
    with pytest.raises(DataError, match="there is no file"):
        artefacts.facts(labels=tmp_path / "none.csv")
    with pytest.raises(DataError, match="is no folder"):
        artefacts.facts(data=tmp_path / "none")


@pytest.mark.usefixtures("leaderboard_alone")
def test_a_head_without_predictions_says_the_command_and_takes_those_that_are_given(copied, facts):
    file = copied.weights / "other" / "predictions" / "test.csv"
    elsewhere = file.rename(copied.weights.parent / "other.csv")
    (copied.weights / "other" / "predictions" / "test.views.csv").unlink()
    found = copied.facts()
    assert entry(found, "other").mean is None
    assert f"`cxr-cft predict {copied.weights / 'other'} --csv" in entry(found, "other").why
    lacking = [each for each in found.entries if each.kind == "ensemble" and each.mean is None]
    assert any("--predictions other=CSV" in each.why for each in lacking)
    [headline] = [each for each in found.entries if each.headline]
    assert headline.mean is not None

    given = copied.facts(predictions=[str(elsewhere)])
    assert entry(given, "other").mean.value == entry(facts, "other").mean.value


@pytest.mark.usefixtures("leaderboard_alone")
def test_an_entry_without_a_scored_category_has_no_mean(artefacts, tmp_path):
    whole = read_predictions(artefacts.weights / "tiny" / "predictions" / "test.csv", ("Edema", "Fracture"))
    write_predictions(tmp_path / "part.csv", whole.studies, whole.categories, whole.scores)
    facts = artefacts.facts(predictions=[str(tmp_path / "part.csv")])
    part = entry(facts, "part")
    assert part.mean is None
    assert "does not predict Atelectasis" in part.why
    assert list(part.auroc) == ["Edema", "Fracture"]
    assert part.auroc["Edema"] == entry(facts, "tiny").auroc["Edema"]
