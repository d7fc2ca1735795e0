"""The competition's numbers: against scikit-learn, with the evaluator's refusals, and where there is no AUROC."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_cft.data import COMPETITION
from cxr_cft.data.truth import read_labels
from cxr_cft.errors import CxrCftError, PredictionsError
from cxr_cft.evaluation.sampled import RESAMPLES, SEED
from cxr_cft.evaluation.score import score_arrays, score_file
from cxr_cft.metrics import FEWEST, delong_interval

# ---- the numbers


def test_aurocs_are_those_of_scikit_learn(entry):
    found = score_file(entry.predictions(), entry.truth())
    reference = {name: roc_auc_score(entry.labels[:, c], entry.scores[:, c]) for c, name in enumerate(COMPETITION)}
    assert found.auroc == pytest.approx(reference, abs=1e-12)
    assert found.mean_auroc == pytest.approx(np.mean(list(reference.values())), abs=1e-12)
    assert (found.studies, found.patients) == (80, 80)
    assert found.positives == dict(zip(COMPETITION, entry.labels.sum(axis=0).astype(int).tolist(), strict=True))


def test_average_precisions_are_those_of_scikit_learn(entry):
    entry.scores = np.round(entry.scores, 1)  # with ties
    found = score_file(entry.predictions(), entry.truth())
    reference = {
        name: average_precision_score(entry.labels[:, c], entry.scores[:, c]) for c, name in enumerate(COMPETITION)
    }
    assert found.average_precision == pytest.approx(reference, abs=1e-12)
    assert found.mean_average_precision == pytest.approx(np.mean(list(reference.values())), abs=1e-12)


def test_an_auroc_by_hand_with_a_tie(entry):
    entry.studies = list("abcd")
    entry.labels = np.tile(np.array([[1.0], [1.0], [0.0], [0.0]]), 5)
    entry.scores = np.tile(np.array([[0.9], [0.4], [0.4], [0.1]]), 5)
    # Four pairs of a positive and a negative: three in order, one tied.
    assert score_file(entry.predictions(), entry.truth()).auroc["Edema"] == 3.5 / 4


def test_unknown_and_uncertain_labels_count_for_nothing(entry):
    entry.labels[:10, 0] = np.nan
    entry.labels[10:20, 0] = -1
    found = score_file(entry.predictions(), entry.truth())
    assert found.auroc[COMPETITION[0]] == pytest.approx(roc_auc_score(entry.labels[20:, 0], entry.scores[20:, 0]))
    assert found.positives[COMPETITION[0]] == entry.labels[20:, 0].sum()
    assert found.negatives[COMPETITION[0]] == (1 - entry.labels[20:, 0]).sum()
    assert found.negatives[COMPETITION[1]] == (1 - entry.labels[:, 1]).sum()


def by_patient(entry, studies=2):
    """The entry with that many studies a patient, and known labels in some places only."""
    entry.studies = [f"data/valid/patient{n // studies:05}/study{n % studies + 1}" for n in range(len(entry.studies))]
    rng = np.random.default_rng(5)
    entry.labels[rng.random(entry.labels.shape) < 0.3] = np.nan
    return entry


def plainly(labels, scores):
    """AUROC and average precision by their definitions, pair by pair."""
    positives, negatives = scores[labels == 1, None], scores[labels == 0]
    won = (positives > negatives) + 0.5 * (positives == negatives)
    true, false = (positives <= positives.T).sum(axis=1), (positives <= negatives).sum(axis=1)
    return won.mean(), (true / (true + false)).mean()


def test_intervals_are_those_of_a_bootstrap_that_draws_one_patient_after_the_other(entry):
    found = score_file(by_patient(entry).predictions(), entry.truth())
    assert (found.studies, found.patients) == (80, 40)
    draws = np.random.default_rng(SEED).integers(40, size=(RESAMPLES, 40))
    auroc, precision = np.empty((2, RESAMPLES, 5))
    for r, patients in enumerate(draws):
        rows = (2 * patients[:, None] + [0, 1]).ravel()
        for c in range(5):
            auroc[r, c], precision[r, c] = plainly(entry.labels[rows, c], entry.scores[rows, c])
    for samples, mean, each in (
        (auroc, found.mean_interval, found.interval),
        (precision, found.mean_average_precision_interval, found.average_precision_interval),
    ):
        assert mean == pytest.approx(np.quantile(samples.mean(axis=1), [0.025, 0.975]), abs=1e-12)
        for c, name in enumerate(COMPETITION):
            assert each[name] == pytest.approx(np.quantile(samples[:, c], [0.025, 0.975]), abs=1e-12)


def test_delongs_intervals_are_those_of_single_categories_where_every_patient_has_one_study(entry):
    found = score_file(entry.predictions(), entry.truth())
    for c, name in enumerate(COMPETITION):
        assert found.delong[name] == pytest.approx(delong_interval(entry.labels[:, c], entry.scores[:, c])[1:])


def test_delongs_interval_of_the_mean_of_one_category_is_the_categorys(entry):
    entry.labels[:, 1:] = np.nan
    found = score_file(entry.predictions(), entry.truth())
    assert found.mean_delong == pytest.approx(found.delong[COMPETITION[0]])


def test_delong_and_bootstrap_agree_where_there_are_many_patients(make_entry):
    made = by_patient(make_entry(1200), studies=3)
    found = score_file(made.predictions(), made.truth())
    pairs = [(found.mean_delong, found.mean_interval)]
    pairs += [(found.delong[name], found.interval[name]) for name in COMPETITION]
    for delong, bootstrap in pairs:
        width = bootstrap[1] - bootstrap[0]
        assert np.abs(np.subtract(delong, bootstrap)).max() < 0.15 * width


def test_intervals_hold_their_estimates_and_shrink_with_more_patients(make_entry):
    few, many = make_entry(60), make_entry(600)
    widths = []
    for made in (few, many):
        found = score_file(made.predictions(), made.truth())
        for name in COMPETITION:
            low, high = found.interval[name]
            assert low < found.auroc[name] < high
        low, high = found.mean_interval
        assert low < found.mean_auroc < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(10), rel=0.4)


def test_the_same_files_give_the_same_intervals(entry):
    assert score_file(entry.predictions(), entry.truth()) == score_file(entry.predictions(), entry.truth())


def test_further_studies_of_the_same_patients_make_no_interval_narrower(entry):
    once = score_file(entry.predictions(), entry.truth())
    entry.studies = [study.replace("study1", f"study{n}") for n in range(1, 6) for study in entry.studies]
    entry.labels, entry.scores = np.tile(entry.labels, (5, 1)), np.tile(entry.scores, (5, 1))
    often = score_file(entry.predictions(), entry.truth())
    assert often.studies == 400
    assert often.auroc == pytest.approx(once.auroc)
    for name in COMPETITION:
        assert often.interval[name] == pytest.approx(once.interval[name])
        assert often.delong[name] == pytest.approx(once.delong[name])
    assert often.mean_delong == pytest.approx(once.mean_delong)
    assert often.mean_interval == pytest.approx(once.mean_interval)


def test_radiologists_are_counted_for_the_five(entry):
    entry.scores = entry.labels * 2.0  # a perfect reader lies above every other
    perfect = score_file(entry.predictions(), entry.truth())
    assert perfect.radiologists == dict.fromkeys(COMPETITION, 3)
    assert perfect.mean_radiologists == 3
    assert set(perfect.auroc.values()) == set(perfect.average_precision.values()) == {1.0}
    entry.scores = -entry.labels
    worst = score_file(entry.predictions(), entry.truth())
    assert worst.radiologists == dict.fromkeys(COMPETITION, 0)
    assert worst.mean_radiologists == 0


def test_perfect_separation_is_not_certainty(entry):
    entry.scores = entry.labels * 2.0
    found = score_file(entry.predictions(), entry.truth())
    assert np.isnan([*found.interval.values(), *found.average_precision_interval.values(), found.mean_interval]).all()
    assert all(0.7 < low < high == 1 for low, high in found.delong.values())
    assert np.isnan(found.mean_delong).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mean_has_no_interval_while_one_of_its_categories_is_perfect(entry, sign):
    entry.scores[:, 2] = sign * entry.labels[:, 2]
    found = score_file(entry.predictions(), entry.truth())
    assert found.auroc["Consolidation"] == (sign + 1) / 2
    assert not np.isnan([found.mean_auroc, *found.interval["Edema"], *found.delong["Edema"]]).any()
    assert np.isnan([*found.mean_interval, *found.mean_delong]).all()
    # The wrong way round average precision is not certain: it hangs on how many positives there are.
    assert np.isnan(found.mean_average_precision_interval).all() == (sign == 1)


# ---- too few patients


def of_patients(entry, positive, negative):
    """The entry with two studies a patient; Consolidation is known of so many patients, one class a patient."""
    entry.studies = [f"data/valid/patient{n // 2:05}/study{n % 2 + 1}" for n in range(80)]
    entry.labels[:, 2] = np.nan
    entry.labels[: 2 * positive, 2] = 1
    entry.labels[80 - 2 * negative :, 2] = 0
    return entry


@pytest.mark.parametrize(("positive", "negative"), [(FEWEST - 1, 30), (30, FEWEST - 1)])
def test_fewer_than_five_patients_of_a_class_have_no_interval_however_many_their_studies(entry, positive, negative):
    of_patients(entry, positive, negative)
    found = score_file(entry.predictions(), entry.truth())
    assert (found.positives["Consolidation"], found.negatives["Consolidation"]) == (2 * positive, 2 * negative)
    assert found.positive_patients["Consolidation"] == positive
    assert found.negative_patients["Consolidation"] == negative
    assert not np.isnan(found.auroc["Consolidation"])
    for each in (found.interval, found.delong, found.average_precision_interval):
        assert np.isnan(each["Consolidation"]).all()
        assert not np.isnan(each["Edema"]).any()
    assert np.isnan([*found.mean_interval, *found.mean_delong, *found.mean_average_precision_interval]).all()


@pytest.mark.parametrize(("positive", "negative"), [(FEWEST, 30), (30, FEWEST)])
def test_five_patients_of_a_class_have_one(entry, positive, negative):
    of_patients(entry, positive, negative)
    found = score_file(entry.predictions(), entry.truth())
    for each in (found.interval, found.delong, found.average_precision_interval):
        assert not np.isnan(each["Consolidation"]).any()
    assert not np.isnan([*found.mean_interval, *found.mean_delong]).any()


def test_a_patient_with_studies_of_both_classes_counts_for_both(entry):
    entry.studies = [f"data/valid/patient{n // 2:05}/study{n % 2 + 1}" for n in range(80)]
    entry.labels[:, 2] = np.arange(80) % 2
    found = score_file(entry.predictions(), entry.truth())
    assert found.positive_patients["Consolidation"] == found.negative_patients["Consolidation"] == 40


# ---- categories without an AUROC


@pytest.mark.parametrize("label", [0.0, 1.0, np.nan])
def test_a_category_without_both_classes_is_left_out_of_every_mean(entry, label):
    whole = score_file(entry.predictions(), entry.truth())
    entry.labels[:, 2] = label
    found = score_file(entry.predictions(), entry.truth())
    assert np.isnan(found.auroc["Consolidation"])
    assert np.isnan(found.average_precision["Consolidation"])
    assert np.isnan([*found.interval["Consolidation"], *found.delong["Consolidation"]]).all()
    assert found.undefined == ("Consolidation",)
    assert "Consolidation" not in found.radiologists
    rest = [name for name in COMPETITION if name != "Consolidation"]
    assert found.mean_auroc == pytest.approx(np.mean([whole.auroc[name] for name in rest]))
    assert found.mean_radiologists == np.mean([whole.radiologists[name] for name in rest])
    for low, high in (found.mean_interval, found.mean_delong):
        assert low < found.mean_auroc < high


def test_a_category_that_the_scores_do_not_have_has_no_number_and_leaves_no_mean(entry):
    truth = read_labels(entry.truth())
    whole = score_arrays(entry.scores, truth)
    entry.scores[:, 2] = np.nan
    found = score_arrays(entry.scores, truth)
    assert np.isnan([found.auroc["Consolidation"], found.mean_auroc, found.mean_average_precision]).all()
    assert np.isnan([*found.mean_interval, *found.mean_delong, *found.delong["Consolidation"]]).all()
    assert found.undefined == ()
    assert found.auroc["Edema"] == whole.auroc["Edema"]
    assert (found.interval["Edema"], found.delong["Edema"]) == (whole.interval["Edema"], whole.delong["Edema"])


def test_a_single_positive_has_an_auroc_but_no_interval(entry):
    entry.labels[:, 2] = 0
    entry.labels[5, 2] = 1
    found = score_file(entry.predictions(), entry.truth())
    assert not np.isnan(found.auroc["Consolidation"])
    assert np.isnan([*found.interval["Consolidation"], *found.delong["Consolidation"]]).all()
    assert np.isnan([*found.average_precision_interval["Consolidation"], *found.mean_interval]).all()


def test_labels_without_any_known_state_give_no_number_and_no_error(entry):
    entry.labels[:] = np.nan
    shown = score_file(entry.predictions(), entry.truth()).as_json()
    assert shown["mean_auroc"] is None
    assert shown["mean_radiologists_under_roc"] is None
    assert shown["radiologists_under_roc"] == {}


# ---- what --json prints


def test_json_has_the_promised_keys_and_plain_numbers(entry):
    shown = score_file(entry.predictions(), entry.truth()).as_json()
    assert list(shown) == [
        "mean_auroc", "auroc", "interval", "mean_radiologists_under_roc", "radiologists_under_roc", "studies",
        "patients", "positives", "negatives", "positive_patients", "negative_patients", "mean_interval",
        "delong_interval", "mean_delong_interval", "mean_average_precision", "mean_average_precision_interval",
        "average_precision", "average_precision_interval",
    ]  # fmt: skip
    by_category = [value for value in shown.values() if isinstance(value, dict)]
    assert all(list(values) == list(COMPETITION) for values in by_category)
    assert all(len(ends) == 2 for ends in [*shown["interval"].values(), *shown["delong_interval"].values()])
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_json_writes_null_where_there_is_no_number(entry):
    entry.labels[:, 2] = 0
    shown = score_file(entry.predictions(), entry.truth()).as_json()
    assert shown["auroc"]["Consolidation"] is None
    assert shown["interval"]["Consolidation"] == [None, None]
    json.dumps(shown, allow_nan=False)


# ---- what the evaluator accepts


def test_order_other_columns_trailing_slashes_and_any_scale_are_accepted(entry):
    plain = score_file(entry.predictions(), entry.truth())
    order = np.random.default_rng(1).permutation(80)
    header = ["Note", *reversed(COMPETITION), "Study"]
    rows = [["x", *(3 * entry.scores[row, ::-1] - 7), f"{entry.studies[row]}/"] for row in order]
    assert score_file(entry.write("other.csv", header, rows), entry.truth()).auroc == pytest.approx(plain.auroc)


def test_labels_may_have_a_row_a_view(entry):
    plain = score_file(entry.predictions(), entry.truth())
    rows = []
    for study, labels in zip(entry.studies, entry.labels.tolist(), strict=True):
        rows += [[f"{study}/view1_frontal.jpg", *labels], [f"{study}/view2_lateral.jpg", *[""] * 5]]
    by_view = entry.write("views.csv", ["Path", *COMPETITION], rows)
    assert score_file(entry.predictions(), by_view) == plain
    assert score_file(entry.predictions(), read_labels(by_view)) == plain


# ---- what the evaluator rejects


def changed(entry, change):
    """The entry's predictions with their lines changed."""
    lines = entry.predictions().read_text().splitlines()
    (entry.folder / "changed.csv").write_text("\n".join(change(lines)) + "\n")
    return entry.folder / "changed.csv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: lines[:-2],
            r"changed\.csv has no row for 2 of 80 studies: \S+patient00078/study1, \S+patient00079/study1$",
        ),
        (
            lambda lines: [*lines, "data/valid/other/study1,0,0,0,0,0"],
            r"changed\.csv has 1 studies that \S+labels\.csv lacks: data/valid/other/study1$",
        ),
        (lambda lines: [*lines, lines[1]], r"changed\.csv has 1 Study values more than once: \S+patient00000/study1$"),
        (
            lambda lines: [line.replace("data/", "./data/") for line in lines],
            r"changed\.csv has no row for 80 of 80 studies",
        ),
        (lambda lines: [line.rpartition(",")[0] for line in lines], r"changed\.csv has no column Pleural Effusion$"),
        (
            lambda lines: [*lines[:4], lines[4].rpartition(",")[0] + ",nan", *lines[5:]],
            r"changed\.csv, line 5, Pleural Effusion: 'nan' is no finite number$",
        ),
    ],
    ids=["missing", "added", "doubled", "another prefix", "no column", "nan"],
)
def test_what_the_evaluator_would_reject_is_refused_by_name(entry, change, message):
    with pytest.raises(PredictionsError, match=message):
        score_file(changed(entry, change), entry.truth())


def test_predictions_that_end_in_the_middle_of_a_line_are_refused(entry):
    file = entry.predictions()
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CxrCftError, match=r"predictions\.csv, line 81: the line ends before its last column"):
        score_file(file, entry.truth())


@pytest.mark.parametrize("missing", ["predictions", "labels"])
def test_a_missing_file_is_named(entry, missing):
    files = {"predictions": entry.predictions(), "labels": entry.truth()}
    files[missing] = entry.folder / "none.csv"
    with pytest.raises(CxrCftError, match=f"^there is no file {re.escape(str(files[missing]))}$"):
        score_file(files["predictions"], files["labels"])
