"""Runs take part with the heads that CFT tuned, foreign CSVs by their stem, each under a name of its own."""

import numpy as np
import pytest

from cxr_cft.artifacts import fingerprint
from cxr_cft.ensemble import gather
from cxr_cft.ensemble.members import run_fingerprint
from cxr_cft.errors import DataError, PredictionsError, RunError

CATEGORIES = ("Cardiomegaly", "Edema")


def test_runs_and_csvs_become_members_in_their_order(make_run, write_scores, names, rng):
    plain, tuned, foreign = rng.random((3, 4, 2))
    runs = [make_run("a", names(4), plain), make_run("b", names(4), plain, tuned=tuned)]
    csv = write_scores("other", names(4), foreign * 9)
    members = gather(runs, [csv], CATEGORIES)
    assert [(each.name, each.kind, each.tuned) for each in members] == [
        ("a", "run", False),
        ("b", "run", True),
        ("other", "csv", False),
    ]
    for each, scores in zip(members, (plain, tuned, foreign * 9), strict=True):
        np.testing.assert_array_equal(each.predictions.rows(names(4)), scores)
    assert [each.source for each in members] == [runs[0].path, runs[1].path, csv]


def test_a_fingerprint_is_of_what_predicts(make_run, write_scores, names, rng):
    run = make_run("a", names(4), rng.random((4, 2)), tuned=rng.random((4, 2)))
    csv = write_scores("other", names(4), rng.random((4, 2)))
    members = gather([run], [csv], CATEGORIES)
    assert members[0].fingerprint == run_fingerprint(run, tuned=True) == fingerprint(run.model_file, run.heads_file)
    assert members[0].fingerprint != run_fingerprint(run, tuned=False)
    assert members[1].fingerprint == fingerprint(csv)


def test_categories_are_read_in_the_order_asked_for(make_run, names, rng):
    scores = rng.random((4, 2))
    run = make_run("a", names(4), scores)
    found = gather([run], [], CATEGORIES[::-1])[0].predictions
    np.testing.assert_array_equal(found.rows(names(4)), scores[:, ::-1])


def test_a_run_without_a_category_is_named(make_run, names, rng):
    run = make_run("small", names(4), rng.random((4, 2)))
    with pytest.raises(RunError, match="run small does not predict Fracture; leave it out of this ensemble"):
        gather([run], [], (*CATEGORIES, "Fracture"))


def test_a_run_without_predictions_of_the_split_is_named(make_run, names, rng):
    run = make_run("small", names(4), rng.random((4, 2)))
    with pytest.raises(RunError, match=r"run small has no predictions of test \(.*test\.csv\); its data folder has no"):
        gather([run], [], CATEGORIES, split="test")


def test_tampered_heads_do_not_take_part(make_run, names, rng):
    run = make_run("small", names(4), rng.random((4, 2)), tuned=rng.random((4, 2)))
    run.heads_file.write_bytes(b"others")
    with pytest.raises(RunError, match=r"is missing or not what cft\.json says it is"):
        gather([run], [], CATEGORIES)


def test_two_members_of_one_name_are_refused(make_run, write_scores, names, rng):
    run = make_run("same", names(4), rng.random((4, 2)))
    csv = write_scores("same", names(4), rng.random((4, 2)))
    with pytest.raises(PredictionsError, match="two members have the name same; a run's folder and a CSV's stem name"):
        gather([run], [csv], CATEGORIES)
    with pytest.raises(PredictionsError, match="two members have the name same"):
        gather([], [csv, csv], CATEGORIES)


def test_a_csv_that_cannot_be_used_is_named(write_scores, names, rng, tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*ghost\.csv"):
        gather([], [tmp_path / "ghost.csv"], CATEGORIES)
    csv = write_scores("other", names(4), rng.random((4, 1)), ("Cardiomegaly",))
    with pytest.raises(PredictionsError, match=r"other\.csv has no column Edema"):
        gather([], [csv], CATEGORIES)
