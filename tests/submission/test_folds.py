"""Joined folds are packed as their runs, each with its part of the weight; runs that are not those are refused."""

import shutil

import numpy as np
import pandas as pd
import pytest

from cxr_cft.artifacts import open_run, read_json, write_json
from cxr_cft.cft.tune import tune_runs
from cxr_cft.data.labels import CATEGORIES, COMPETITION
from cxr_cft.data.predictions import read_predictions, write_predictions
from cxr_cft.ensemble.blend import to_scale, weighted
from cxr_cft.ensemble.search import search_ensemble
from cxr_cft.errors import SubmissionError
from cxr_cft.settings import DataSettings
from cxr_cft.submission import predict
from cxr_cft.submission.bundle import package
from cxr_cft.submission.folds import with_fold_runs
from cxr_cft.training.folds import fold_name
from cxr_cft.training.train import train_run

AGAIN = r"run `cxr-cft ensemble` again$"
RUNS = ("tiny-0of2", "tiny-1of2")


@pytest.fixture(scope="module")
def folds(recipe, data, tmp_path_factory):
    """A folder of two runs that left out a fold each, tuned, and their predictions joined; no test may change it."""
    folder = tmp_path_factory.mktemp("folds")
    runs = []
    for fold in ("0/2", "1/2"):
        with_fold = recipe.model_copy(update={"data": DataSettings(fold=fold)})
        runs.append(train_run(with_fold, fold_name("tiny", fold), data, folder))
    # Pulled strongly, as in conftest: the heads stay small enough for float32.
    list(tune_runs(runs, methods=["bce"], overrides=["cft.pulls=[10.0]"]))
    return folder


@pytest.fixture(scope="module")
def searched_in(data):
    """A function: the ensemble of a folder's joined folds, trained and tuned, by as little as a search can do."""

    def searched_in(folder):
        csvs = [folder / "tiny-2folds.csv", folder / "tiny-2folds.cft.csv"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cxr_cft.ensemble.finders.BAGS", 2)
            patch.setattr("cxr_cft.ensemble.finders.GREEDY_STEPS", 5)
            return search_ensemble([], folder, csvs, data / "train.csv")

    return searched_in


@pytest.fixture(scope="module")
def joined(folds, searched_in, changed):
    """The ensemble of both joined CSVs, with other weights for each category."""
    found = searched_in(folds)
    shares = np.random.default_rng(0).dirichlet((4.0, 4.0), size=len(CATEGORIES)).T
    own = {
        member.name: dict(zip(CATEGORIES, row, strict=True))
        for member, row in zip(found.members, shares.tolist(), strict=True)
    }
    return changed(found, {"weights": own}, chosen="ga-category")


@pytest.fixture
def moved(folds, joined, tmp_path):
    """A copy of the folder, and the ensemble as if it had been searched there."""
    folder = shutil.copytree(folds, tmp_path / "moved")
    members = [
        member.model_copy(update={"source": member.source.replace(str(folds), str(folder))})
        for member in joined.members
    ]
    return folder, joined.model_copy(update={"members": tuple(members)})


def names_of(ensemble):
    return [member.name for member in ensemble.members]


def both(ensemble):
    return with_fold_runs(ensemble, names_of(ensemble))


def test_the_search_knows_them_for_folds(joined):
    assert [(each.name, each.kind, each.tuned, each.by_view) for each in joined.members] == [
        ("tiny-2folds", "folds", False, False),
        ("tiny-2folds.cft", "folds", True, False),
    ]
    assert not joined.optimistic


def test_what_is_packed_predicts_the_mean_of_the_runs(joined, folds, data, answer, tmp_path):
    made = package(joined, "folds", tmp_path)
    assert sorted(path.name for path in (made.folder / "models").iterdir()) == [f"{name}.onnx" for name in RUNS]
    found = answer(made.folder, data / "test.csv", data.parent)
    z = []
    for member in joined.members:
        scales = [member.scales[joined.candidate.scale].get(name) for name in joined.categories]
        scales = [scale.model_dump() if scale else None for scale in scales]
        own = [open_run(folds / name).predictions("test", tuned=member.tuned) for name in RUNS]
        scores = np.stack([read_predictions(csv, joined.categories).rows(list(found.index)) for csv in own])
        assert np.abs(scores[0] - scores[1]).max() > 1e-2
        z.append(to_scale(scores, [scales] * len(RUNS)).mean(axis=0))
    output = [joined.candidate.output[name] for name in joined.categories]
    logits = weighted(np.stack(z), joined.weights())
    logits = logits * [each.slope for each in output] + [each.intercept for each in output]
    expected = pd.DataFrame(1 / (1 + np.exp(-logits)), index=found.index, columns=list(joined.categories))
    assert expected[list(COMPETITION)].std().min() > 1e-4
    np.testing.assert_allclose(found, expected[list(COMPETITION)], rtol=0, atol=1e-5)


def test_each_run_has_the_members_scales_and_its_part_of_the_weight_in_every_candidate(joined):
    found = both(joined)
    assert names_of(found) == [*RUNS, *(f"{name}.cft" for name in RUNS)]
    assert {member.kind for member in found.members} == {"run"}
    for name in joined.candidates:
        for m, weights in enumerate(joined.weights(name)):
            parts = found.weights(name)[2 * m : 2 * m + 2]
            np.testing.assert_array_equal(parts, np.stack([weights / 2] * 2))
    for m, member in enumerate(found.members):
        assert member.scales == joined.members[m // 2].scales
        assert (member.alone, member.correlation, member.gain) == (None, None, None)
    assert found.correlations == ((None,) * 4,) * 4
    assert found.candidate.output == joined.candidate.output


def test_the_bundle_has_both_heads_of_each_run_and_joins_views_as_the_folds_were(joined, specified):
    submission = specified(joined.model_copy(update={"aggregation": "mean"}))
    assert [(each["name"], each["model"], each["head"]) for each in submission["members"]] == [
        ("tiny-0of2", "models/tiny-0of2.onnx", "trained"),
        ("tiny-1of2", "models/tiny-1of2.onnx", "trained"),
        ("tiny-0of2.cft", "models/tiny-0of2.onnx", "tuned"),
        ("tiny-1of2.cft", "models/tiny-1of2.onnx", "tuned"),
    ]
    assert predict.aggregations(submission) == ["max"] * 4


def test_the_card_lists_the_runs_and_says_whose_the_numbers_are(joined, specified, tmp_path):
    specified(joined)
    card = (tmp_path / "specified" / "specified" / "MODEL_CARD.md").read_text()
    columns = [joined.categories.index(name) for name in COMPETITION]
    for member, weights in zip(joined.members, joined.weights()[:, columns].mean(axis=1), strict=True):
        for name in RUNS:
            name += ".cft" * member.tuned
            (row,) = [line.split(" | ") for line in card.splitlines() if line.startswith(f"| {name} | ")]
            assert row[4] == f"{weights / 2:.3f}"
    assert "Each of tiny-2folds, tiny-2folds.cft took part in the search as one member: " in card
    assert "a study has the maximum of its views." in card


def test_the_card_says_how_views_are_joined_where_that_is_not_as_the_ensemble_does(joined, specified, tmp_path):
    specified(joined.model_copy(update={"aggregation": "mean"}))
    card = (tmp_path / "specified" / "specified" / "MODEL_CARD.md").read_text()
    names = "tiny-0of2, tiny-1of2, tiny-0of2.cft, tiny-1of2.cft"
    assert f"a study has the mean of its views, from {names} the maximum." in card


def test_a_run_that_is_a_member_by_itself_keeps_its_name_and_its_weight(joined, changed, specified):
    run = both(joined).members[0]
    content = joined.model_dump()
    content["members"] += (run.model_dump(),)
    for candidate in content["candidates"].values():
        candidate["weights"][run.name] = dict.fromkeys(candidate["weights"]["tiny-2folds"], 0.25)
    rows = [(*row, 0.5) for row in content["correlations"]] + [(0.5, 0.5, 1.0)]
    ensemble = changed(joined, members=content["members"], candidates=content["candidates"], correlations=rows)
    members = specified(ensemble)["members"]
    assert [each["name"] for each in members] == [
        "tiny-0of2-2",
        "tiny-1of2",
        "tiny-0of2.cft",
        "tiny-1of2.cft",
        "tiny-0of2",
    ]
    assert {each["model"] for each in members if "0of2" in each["name"]} == {"models/tiny-0of2.onnx"}
    assert members[-1]["weights"]["Edema"] == 0.25
    assert members[0]["weights"]["Edema"] == joined.candidate.weights["tiny-2folds"]["Edema"] / 2
    assert with_fold_runs(ensemble, ["tiny-2folds"]).correlations[3] == (None, None, 0.5, 1.0)


def test_folds_without_weight_are_no_hindrance(moved, changed, specified):
    folder, joined = moved
    weights = {member.name: dict.fromkeys(joined.categories, float(not member.tuned)) for member in joined.members}
    (folder / "tiny-2folds.cft.csv").unlink()
    members = specified(changed(joined, {"weights": weights}))["members"]
    assert [each["name"] for each in members] == list(RUNS)


def test_folds_that_moved_since_the_search_are_found_beside_their_csv(moved, folds, joined, specified):
    folder, _ = moved
    gone = [
        member.model_copy(update={"source": member.source.replace(str(folds), "/nowhere")}) for member in joined.members
    ]
    gone = joined.model_copy(update={"members": tuple(gone)})
    assert len(specified(gone, near=folder)["members"]) == 4
    (folder / "tiny-2folds.cft.csv").unlink()
    with pytest.raises(
        SubmissionError, match=rf"^/nowhere/tiny-2folds\.cft\.csv is gone; put it, and the runs .*, or {AGAIN}"
    ):
        specified(gone, near=folder)


# ---- what is refused


def test_a_run_that_is_gone_is_named(moved):
    folder, joined = moved
    shutil.rmtree(folder / RUNS[1])
    with pytest.raises(
        SubmissionError,
        match=rf"^tiny-2folds is packed as its runs, and .*/tiny-1of2 is gone; train it again, then {AGAIN}",
    ):
        both(joined)


def test_a_run_that_is_not_complete_or_damaged_is_named(moved):
    folder, joined = moved
    model = folder / RUNS[0] / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(
        SubmissionError, match=r"^tiny-2folds is packed as its runs: .*/tiny-0of2/model\.safetensors is "
    ):
        both(joined)
    (folder / RUNS[0] / "run.json").unlink()
    with pytest.raises(
        SubmissionError, match=r"^tiny-2folds is packed as its runs: run .*/tiny-0of2 is not complete .*; finish it"
    ):
        both(joined)


def test_tuned_folds_need_the_tuned_heads_of_every_run(moved):
    folder, joined = moved
    (folder / RUNS[1] / "cft.json").unlink()
    assert len(with_fold_runs(joined, ["tiny-2folds"]).members) == 3
    with pytest.raises(
        SubmissionError,
        match=r"^run tiny-1of2 of tiny-2folds\.cft has no heads tuned for its weights; "
        rf"run `cxr-cft cft .*/tiny-1of2`, then {AGAIN}",
    ):
        both(joined)


def test_heads_that_their_report_does_not_vouch_for_are_refused(moved):
    folder, joined = moved
    report = read_json(folder / RUNS[1] / "cft.json")
    write_json(folder / RUNS[1] / "cft.json", {**report, "heads": "0" * 64})
    with pytest.raises(
        SubmissionError, match=r"^tiny-2folds\.cft is packed as its runs: .*/heads\.safetensors is missing or not what"
    ):
        both(joined)


def test_a_csv_that_was_joined_anew_is_refused(moved):
    folder, joined = moved
    csv = folder / "tiny-2folds.csv"
    csv.write_text(csv.read_text() + "\n")
    with pytest.raises(SubmissionError, match=rf"^.*/tiny-2folds\.csv has changed since the ensemble; {AGAIN}"):
        both(joined)


@pytest.mark.parametrize("tuned", [False, True])
def test_a_run_that_predicts_its_fold_otherwise_by_a_last_digit_is_refused(moved, tuned):
    folder, joined = moved
    own = open_run(folder / RUNS[1]).predictions("fold", tuned=tuned)
    found = read_predictions(own, CATEGORIES)
    scores = found.scores.copy()
    scores[-1, 0] = np.nextafter(scores[-1, 0], 1)
    write_predictions(own, found.studies, CATEGORIES, scores)
    name = r"tiny-2folds\.cft\.csv" if tuned else r"tiny-2folds\.csv"
    with pytest.raises(
        SubmissionError,
        match=rf"^run tiny-1of2 does not predict its fold as .*/{name} has it; once all folds are trained and tuned "
        rf"alike, {AGAIN}",
    ):
        both(joined)


def test_a_run_that_predicts_other_studies_more_fewer_or_none_is_refused(moved):
    folder, joined = moved
    own = open_run(folder / RUNS[0]).predictions("fold", tuned=False)
    found = read_predictions(own, CATEGORIES)
    write_predictions(own, ["made/patient0/study1", *found.studies[1:]], CATEGORIES, found.scores)
    with pytest.raises(SubmissionError, match=r"^run tiny-0of2 does not predict its fold as "):
        both(joined)
    write_predictions(own, found.studies[1:], CATEGORIES, found.scores[1:])
    with pytest.raises(
        SubmissionError, match=rf"/tiny-2folds\.csv has (\d+) studies, its runs predict (?!\1)\d+; {AGAIN}"
    ):
        both(joined)
    own.unlink()
    with pytest.raises(
        SubmissionError, match=r"^run tiny-0of2 of tiny-2folds has no predictions of its fold \(.*fold\.csv\); train it"
    ):
        both(joined)


def test_an_ensemble_whose_folds_have_another_name_is_refused(moved):
    folder, joined = moved
    (folder / "tiny-2folds.csv").rename(folder / "mine.csv")
    mine = joined.members[0].model_copy(update={"source": str(folder / "mine.csv")})
    with pytest.raises(
        SubmissionError, match=r"/mine\.csv is not named as joined folds are, BASE-Kfolds\.csv; give it"
    ):
        both(joined.model_copy(update={"members": (mine, joined.members[1])}))
