"""The command's work: which runs, which labels and which categories take part."""

import numpy as np
import pytest

from cxr_cft.ensemble.search import search_ensemble
from cxr_cft.errors import DataError, PredictionsError, RunError

CATEGORIES = ("Cardiomegaly", "Edema")
NUMBER = 40


@pytest.fixture
def problem(made):
    return made(np.random.default_rng(0), NUMBER, (1.0, 2.0, 3.0))


@pytest.fixture
def data(problem, names, write_labels, tmp_path):
    """A data folder whose valid.csv holds the made labels."""
    write_labels(tmp_path / "Tiny" / "valid.csv", names(NUMBER), problem[0])
    return tmp_path / "Tiny"


@pytest.fixture
def two_runs(problem, names, make_run, data, tmp_path):
    for name, part in zip("ab", problem[1], strict=False):
        make_run(name, names(NUMBER), part, root=data)
    return tmp_path / "weights"


def test_without_names_every_run_takes_part_on_the_validation_labels_of_its_data(two_runs):
    found = search_ensemble((), two_runs, (), None)
    assert [entry.name for entry in found.members] == ["a", "b"]
    assert (found.studies, found.categories, found.seed) == (NUMBER, CATEGORIES, 0)


def test_named_runs_alone_take_part(two_runs):
    assert [entry.name for entry in search_ensemble(("b",), two_runs, (), None).members] == ["b"]
    with pytest.raises(RunError, match=r"there is no run .*/c"):
        search_ensemble(("c",), two_runs, (), None)


def test_csvs_join_named_runs_and_alone_they_look_for_no_run(two_runs, problem, names, write_scores, data):
    csv = write_scores("other", names(NUMBER), problem[1][2] * 5 + 1)
    both = search_ensemble(("a",), two_runs, (csv,), None)
    assert [(entry.name, entry.kind) for entry in both.members] == [("a", "run"), ("other", "csv")]
    alone = search_ensemble((), two_runs, (csv,), data / "valid.csv")
    assert [entry.name for entry in alone.members] == ["other"]


def test_csvs_alone_need_to_be_told_the_labels(two_runs, problem, names, write_scores):
    csv = write_scores("other", names(NUMBER), problem[1][2])
    with pytest.raises(PredictionsError, match="there is no run to take them from: say with --labels which studies"):
        search_ensemble((), two_runs, (csv,), None)


def test_runs_of_different_data_need_to_be_told_the_labels(two_runs, problem, names, make_run, data):
    make_run("c", names(NUMBER), problem[1][2], root="elsewhere")
    with pytest.raises(PredictionsError, match="the runs were trained on different data: say with --labels"):
        search_ensemble((), two_runs, (), None)
    assert len(search_ensemble((), two_runs, (), data / "valid.csv").members) == 3


def test_no_run_at_all_is_said(tmp_path):
    with pytest.raises(RunError, match=r"no complete run under .*weights; train one first"):
        search_ensemble((), tmp_path / "weights", (), None)


def test_uncertain_labels_are_unknown_and_views_of_a_study_are_joined(two_runs, problem, names, write_labels, tmp_path):
    labels = problem[0].copy()
    labels[:10, 1] = -1
    uncertain = search_ensemble((), two_runs, (), write_labels(tmp_path / "u.csv", names(NUMBER), labels))
    labels[:10, 1] = np.nan
    blank = search_ensemble((), two_runs, (), write_labels(tmp_path / "b.csv", names(NUMBER), labels))
    assert uncertain == blank
    labels[:10, 1] = 0
    negative = search_ensemble((), two_runs, (), write_labels(tmp_path / "n.csv", names(NUMBER), labels))
    assert negative.equal.fitted != blank.equal.fitted
    assert blank.studies == NUMBER
    assert blank.equal.fitted != search_ensemble((), two_runs, (), None).equal.fitted


def test_categories_are_those_that_all_members_and_the_labels_have(
    two_runs, problem, names, write_scores, write_labels, tmp_path
):
    scores = np.column_stack([problem[1][2][:, 1], problem[1][2]])
    csv = write_scores("other", names(NUMBER), scores[:, :2], ("Edema", "Fracture"))
    assert search_ensemble(("a",), two_runs, (csv,), None).categories == ("Edema",)
    labels = write_labels(tmp_path / "l.csv", names(NUMBER), problem[0][:, :1], CATEGORIES[:1])
    assert search_ensemble((), two_runs, (), labels).categories == ("Cardiomegaly",)


def test_members_without_a_common_category_are_refused(two_runs, problem, names, write_scores):
    csv = write_scores("other", names(NUMBER), problem[1][2], ("Fracture", "Pneumonia"))
    with pytest.raises(PredictionsError, match="the members have no category in common"):
        search_ensemble(("a",), two_runs, (csv,), None)


def test_labels_without_any_of_the_categories_are_refused(two_runs, problem, names, write_labels, tmp_path):
    labels = write_labels(tmp_path / "l.csv", names(NUMBER), problem[0], ("Fracture", "Pneumonia"))
    with pytest.raises(PredictionsError, match=r"l\.csv has none of the categories that the members predict: Cardiom"):
        search_ensemble((), two_runs, (), labels)


def test_a_missing_labels_file_is_said_to_be_missing(two_runs, tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*ghost\.csv"):
        search_ensemble((), two_runs, (), tmp_path / "ghost.csv")


def test_the_seed_is_the_searchs(two_runs):
    first, again, other = (search_ensemble((), two_runs, (), None, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.seed == 3
    assert first.equal.out_of_fold != other.equal.out_of_fold
