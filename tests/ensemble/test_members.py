"""Runs take part by their trained and their tuned heads, CSVs by their stem, each under a name of its own."""

import re
import shutil

import numpy as np
import pytest

from cxr_cft.artifacts import fingerprint, write_json
from cxr_cft.data.predictions import write_predictions
from cxr_cft.data.studies import AGGREGATIONS, aggregate_views
from cxr_cft.ensemble.members import (
    LARGEST,
    aligned,
    copies,
    folds_of,
    gather,
    name_of,
    run_fingerprint,
    shared_studies,
)
from cxr_cft.errors import DataError, PredictionsError, RunError

CATEGORIES = ("Cardiomegaly", "Edema")


@pytest.fixture
def write_views():
    """What a run keeps of single views: two a study, with scores (2 S, C) in the studies' order."""

    def write(run, studies, scores, *, tuned=False):
        paths = [f"{study}/view{view}_frontal.jpg" for study in studies for view in (1, 2)]
        write_predictions(run.predictions("valid", tuned=tuned, views=True), paths, run.categories, scores, key="Path")
        return paths

    return write


# ---- who takes part


def test_a_run_takes_part_by_its_trained_and_by_its_tuned_head_and_a_csv_by_its_stem(
    make_run, write_scores, names, rng
):
    plain, trained, tuned, foreign = rng.random((4, 4, 2))
    runs = [make_run("a", names(4), plain), make_run("b", names(4), trained, tuned=tuned)]
    csv = write_scores("other", names(4), foreign * 9)
    members = gather(runs, [csv], CATEGORIES)
    assert [(each.name, each.kind, each.tuned) for each in members] == [
        ("a", "run", False),
        ("b", "run", False),
        ("b.cft", "run", True),
        ("other", "csv", False),
    ]
    for each, scores in zip(members, (plain, trained, tuned, foreign * 9), strict=True):
        np.testing.assert_array_equal(each.rows.joined().rows(names(4)), scores)
    assert [each.source for each in members] == [runs[0].path, runs[1].path, runs[1].path, csv]


def test_a_fingerprint_is_of_what_predicts(make_run, write_scores, names, rng):
    run = make_run("a", names(4), rng.random((4, 2)), tuned=rng.random((4, 2)))
    csv = write_scores("other", names(4), rng.random((4, 2)))
    trained, tuned, foreign = gather([run], [csv], CATEGORIES)
    assert trained.fingerprint == run_fingerprint(run, tuned=False) == fingerprint(run.model_file)
    assert tuned.fingerprint == run_fingerprint(run, tuned=True) == fingerprint(run.model_file, run.heads_file)
    assert foreign.fingerprint == fingerprint(csv)


def test_heads_of_older_weights_do_not_take_part(make_run, names, rng):
    run = make_run("a", names(4), rng.random((4, 2)), tuned=rng.random((4, 2)))
    write_json(run.path / "cft.json", {"model": "0" * 64, "heads": fingerprint(run.heads_file)})
    assert [each.name for each in gather([run], [], CATEGORIES)] == ["a"]
    with pytest.raises(
        PredictionsError, match=r"valid\.cft\.csv is not by the weights that run a has; run `cxr-cft cft .*a` again$"
    ):
        gather([], [run.predictions("valid", tuned=True)], CATEGORIES)


def test_a_run_is_read_by_single_views_where_it_has_them(make_run, write_views, names, rng):
    views = rng.random((2, 8, 2))
    studies = [aggregate_views([f"{study}/v" for study in names(4) for _ in "ab"], each)[1] for each in views]
    run = make_run("a", names(4), studies[0], tuned=studies[1])
    paths = write_views(run, names(4), views[0])
    trained, tuned = gather([run], [], CATEGORIES)
    assert (trained.rows.level, trained.rows.names) == ("image", tuple(paths))
    assert tuned.rows.level == "study"  # of an older release
    write_views(run, names(4), views[1], tuned=True)
    for each, scores in zip(gather([run], [], CATEGORIES), views, strict=True):
        np.testing.assert_array_equal(each.rows.scores, scores)


def test_categories_are_read_in_the_order_asked_for(make_run, names, rng):
    scores = rng.random((4, 2))
    run = make_run("a", names(4), scores)
    found = gather([run], [], CATEGORIES[::-1])[0].rows.joined()
    np.testing.assert_array_equal(found.rows(names(4)), scores[:, ::-1])


def test_who_lacks_a_category_takes_part_for_the_others(make_run, write_scores, names, rng, notes):
    run = make_run("small", names(4), rng.random((4, 2)))
    csv = write_scores("other", names(4), rng.random((4, 2)), ("Edema", "Fracture"))
    members = gather([run], [csv], (*CATEGORIES, "Fracture"), progress=notes)
    assert [each.categories for each in members] == [CATEGORIES, ("Edema", "Fracture")]
    assert notes.told == []


def test_a_category_that_a_csv_seems_to_call_otherwise_is_noted(write_scores, names, rng, notes):
    categories = ("Pleural Effusion", "Lung Lesion", "Edema")
    csv = write_scores("other", names(4), rng.random((4, 3)), ("Pleural_Effusion", "Lung Opacity", "Edema"))
    assert gather([], [csv], categories, progress=notes)[0].categories == ("Edema",)
    assert notes.told == [
        f"{csv} takes part without Pleural Effusion: it has no such column (did you mean 'Pleural_Effusion'?)"
    ]


def test_who_has_no_category_at_all_is_named(make_run, write_scores, names, rng):
    run = make_run("small", names(4), rng.random((4, 2)))
    with pytest.raises(PredictionsError, match=r"small/predictions/valid\.csv has none of the columns Fracture;"):
        gather([run], [], ["Fracture"])
    csv = write_scores("other", names(4), rng.random((4, 2)))
    with pytest.raises(PredictionsError, match=r"other\.csv has none of the columns Fracture; it has Cardiomegaly, Ed"):
        gather([], [csv], ["Fracture"])


def test_a_run_without_predictions_of_the_split_is_named(make_run, names, rng):
    run = make_run("small", names(4), rng.random((4, 2)))
    with pytest.raises(RunError, match=r"run small has no predictions of test \(.*test\.csv\); its data folder has no"):
        gather([run], [], CATEGORIES, split="test")


def test_tampered_heads_do_not_take_part(make_run, names, rng):
    run = make_run("small", names(4), rng.random((4, 2)), tuned=rng.random((4, 2)))
    run.heads_file.write_bytes(b"others")
    with pytest.raises(RunError, match=r"is missing or not what cft\.json says it is"):
        gather([run], [], CATEGORIES)


def test_a_csv_that_cannot_be_used_is_named(write_scores, make_run, names, rng, tmp_path):
    run = make_run("a", names(4), rng.random((4, 2)))
    for ghost in (tmp_path / "ghost.csv", run.predictions("valid", tuned=True)):
        with pytest.raises(DataError, match=rf"^there is no file {re.escape(str(ghost))}$"):
            gather([], [ghost], CATEGORIES)
    with pytest.raises(PredictionsError, match=r"other\.csv has no rows$"):
        gather([], [write_scores("other", [], np.empty((0, 2)))], CATEGORIES)


@pytest.mark.parametrize("score", [1.1e30, -1.1e30, 1e308])
def test_scores_that_cannot_be_averaged_are_refused_in_one_line(write_scores, names, rng, score):
    scores = rng.random((4, 2))
    scores[2, 1] = score
    csv = write_scores("other", names(4), scores)
    with pytest.raises(
        PredictionsError, match=rf"^{re.escape(str(csv))} holds scores beyond 1e\+30, which cannot be averaged$"
    ):
        gather([], [csv], CATEGORIES)
    scores[2, 1] = np.copysign(LARGEST, score)
    (found,) = gather([], [write_scores("other", names(4), scores)], (*CATEGORIES, "Fracture"))
    np.testing.assert_array_equal(found.rows.scores[:, :2], scores)


# ---- CSVs that are a run's own


@pytest.mark.parametrize("views", [False, True])
def test_a_csv_in_a_runs_folder_is_that_runs_member(make_run, write_views, names, rng, views):
    run = make_run("a", names(4), rng.random((4, 2)), tuned=rng.random((4, 2)))
    for tuned in (False, True):
        write_views(run, names(4), rng.random((8, 2)), tuned=tuned)
    csvs = [run.predictions("valid", tuned=tuned, views=views) for tuned in (False, True)]
    assert [name_of(csv) for csv in csvs] == ["a", "a.cft"]
    members = gather([], csvs, CATEGORIES)
    expected = gather([run], [], CATEGORIES)
    for found, one in zip(members, expected, strict=True):
        assert (found.name, found.kind, found.tuned) == (one.name, "run", one.tuned)
        assert (found.source.resolve(), found.fingerprint) == (one.source.resolve(), one.fingerprint)
        assert found.rows.level == ("image" if views else "study")


def test_from_inside_its_folder_too(make_run, names, rng, monkeypatch):
    run = make_run("a", names(4), rng.random((4, 2)))
    monkeypatch.chdir(run.path / "predictions")
    csv = run.predictions("valid", tuned=False).relative_to(run.path / "predictions")
    assert name_of(csv) == "a"
    assert [(each.name, each.kind) for each in gather([], [csv], CATEGORIES)] == [("a", "run")]


@pytest.mark.parametrize(
    "name", ["predictions/mine.csv", "predictions/valid.mean.csv", "predictions/valid.cft.views.csv", "valid.csv"]
)
def test_what_else_lies_in_a_runs_folder_is_called_by_its_stem(make_run, names, rng, name):
    run = make_run("a", names(4), rng.random((4, 2)))
    csv = run.path / name
    if not csv.exists():
        shutil.copyfile(run.predictions("valid", tuned=False), csv)
    assert name_of(csv) == csv.stem
    assert [(each.name, each.kind) for each in gather([], [csv], CATEGORIES)] == [(csv.stem, "csv")]


def test_a_folder_of_predictions_without_a_run_is_no_run(names, rng, tmp_path):
    csv = tmp_path / "net" / "predictions" / "valid.csv"
    write_predictions(csv, names(4), CATEGORIES, rng.random((4, 2)))
    assert name_of(csv) == "valid"
    assert gather([], [csv], CATEGORIES)[0].kind == "csv"


def test_predictions_that_are_links_into_a_store_are_still_the_runs(make_run, names, rng, tmp_path):
    run = make_run("a", names(4), rng.random((4, 2)))
    csv = run.predictions("valid", tuned=False)
    csv.rename(tmp_path / "5f2a.csv")
    csv.symlink_to(tmp_path / "5f2a.csv")
    assert gather([], [csv], CATEGORIES)[0].source.name == "a"


def test_a_damaged_run_is_refused_by_its_csv_too(make_run, names, rng):
    run = make_run("a", names(4), rng.random((4, 2)))
    run.model_file.write_bytes(b"others")
    with pytest.raises(RunError, match=r"model\.safetensors is damaged or not this run's"):
        gather([], [run.predictions("valid", tuned=False)], CATEGORIES)


# ---- CSVs of joined folds


@pytest.fixture
def fold_runs(make_run, names, rng):
    """Make the runs of a training in parts; they lie beside each other."""

    def fold_runs(base, parts):
        return [make_run(f"{base}-{part}of{parts}", names(4), rng.random((4, 2))) for part in range(parts)]

    return fold_runs


@pytest.mark.parametrize(("name", "tuned"), [("net-1of2-3folds", False), ("net-1of2-3folds.cft", True)])
def test_a_csv_of_joined_folds_beside_its_complete_runs_is_a_member_of_folds(fold_runs, names, rng, name, tuned):
    runs = fold_runs("net-1of2", 3)
    csv = runs[0].path.with_name(f"{name}.csv")
    write_predictions(csv, names(4), CATEGORIES, rng.random((4, 2)))
    (found,) = gather([], [csv], CATEGORIES)
    assert (found.name, found.kind, found.source, found.tuned) == (name, "folds", csv, tuned)
    assert found.fingerprint == fingerprint(csv)
    folders, by_tuned = folds_of(csv)
    assert [folder.resolve() for folder in folders] == [run.path.resolve() for run in runs]
    assert by_tuned == tuned


def test_while_one_of_its_runs_is_missing_or_incomplete_it_is_a_csv(fold_runs, names, rng):
    runs = fold_runs("net", 2)
    csv = runs[0].path.with_name("net-2folds.csv")
    write_predictions(csv, names(4), CATEGORIES, rng.random((4, 2)))
    assert gather([], [csv], CATEGORIES)[0].kind == "folds"
    (runs[1].path / "run.json").unlink()
    assert gather([], [csv], CATEGORIES)[0].kind == "csv"
    shutil.rmtree(runs[1].path)
    assert gather([], [csv], CATEGORIES)[0].kind == "csv"


@pytest.mark.parametrize("name", ["net-3folds", "net-folds", "net-0folds", "net-1folds", "2folds", "net-2folds.mean"])
def test_of_another_name_it_is_a_csv(fold_runs, names, rng, name):
    runs = fold_runs("net", 2)
    csv = runs[0].path.with_name(f"{name}.csv")
    write_predictions(csv, names(4), CATEGORIES, rng.random((4, 2)))
    (found,) = gather([], [csv], CATEGORIES)
    assert (found.name, found.kind, found.tuned) == (name, "csv", False)


def test_a_link_to_joined_folds_is_theirs_and_called_by_its_own_stem(fold_runs, names, rng, tmp_path):
    csv = fold_runs("net", 2)[0].path.with_name("net-2folds.csv")
    write_predictions(csv, names(4), CATEGORIES, rng.random((4, 2)))
    link = tmp_path / "mine.csv"
    link.symlink_to(csv)
    (found,) = gather([], [link], CATEGORIES)
    assert (found.name, found.kind) == ("mine", "folds")


# ---- names


def test_a_second_member_of_a_name_is_numbered_and_noted(make_run, write_scores, names, rng, tmp_path, notes):
    run = make_run("same", names(4), rng.random((4, 2)))
    csvs = [write_scores(name, names(4), rng.random((4, 2))) for name in ("same", "same-2")]
    other = tmp_path / "elsewhere" / "same.csv"
    write_predictions(other, names(4), CATEGORIES, rng.random((4, 2)))
    members = gather([run], [*csvs, other], CATEGORIES, progress=notes)
    assert [each.name for each in members] == ["same", "same-3", "same-2", "same-4"]
    assert notes.told == [
        f"{csvs[0]} takes part as same-3: another member is called same",
        f"{other} takes part as same-4: another member is called same",
    ]


def test_the_second_and_third_of_a_name_are_2_and_3(names, rng, tmp_path):
    csvs = [tmp_path / folder / "scores.csv" for folder in "abc"]
    for csv in csvs:
        write_predictions(csv, names(4), CATEGORIES, rng.random((4, 2)))
    assert [each.name for each in gather([], csvs, CATEGORIES)] == ["scores", "scores-2", "scores-3"]


def test_the_same_file_twice_is_refused(write_scores, names, rng, tmp_path):
    csv = write_scores("same", names(4), rng.random((4, 2)))
    with pytest.raises(PredictionsError, match=r"^member same is given twice: .*/same\.csv; give it once$"):
        gather([], [csv, csv], CATEGORIES)
    link = tmp_path / "link.csv"
    link.symlink_to(csv)
    with pytest.raises(PredictionsError, match=r"^member link is given twice: .*/link\.csv, as .*/same\.csv too; give"):
        gather([], [csv, link], CATEGORIES)


def test_a_runs_member_twice_is_refused(make_run, write_views, names, rng, tmp_path):
    run = make_run("a", names(4), rng.random((4, 2)), tuned=rng.random((4, 2)))
    with pytest.raises(PredictionsError, match=r"^member a is given twice: .*/valid\.csv; give it once$"):
        gather([run, run], [], CATEGORIES)
    with pytest.raises(PredictionsError, match=r"^member a\.cft is given twice: .*/valid\.cft\.csv; give it once$"):
        gather([run], [run.predictions("valid", tuned=True)], CATEGORIES)
    write_views(run, names(4), rng.random((8, 2)))
    paths = [run.predictions("valid", tuned=False, views=views) for views in (False, True)]
    with pytest.raises(PredictionsError, match=r"^member a is given twice: .*\.views\.csv, as .*/valid\.csv too; give"):
        gather([], paths, CATEGORIES)
    link = tmp_path / "link.csv"
    link.symlink_to(paths[1])
    with pytest.raises(PredictionsError, match=r"^member link is given twice: .*link\.csv, as .*views\.csv too; give"):
        gather([run], [link], CATEGORIES)


# ---- scores of the same studies


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_members_are_aligned_in_studies_and_categories(make_run, write_views, write_scores, names, rng, how):
    run = make_run("a", names(4), rng.random((4, 2)))
    views = rng.random((8, 2))
    paths = write_views(run, names(4), views)
    foreign = rng.normal(size=(5, 2))
    csv = write_scores("other", names(5), foreign, ("Edema", "Fracture"))
    categories = ("Fracture", *CATEGORIES)
    wanted = names(4)[::-1]
    found = aligned(gather([run], [csv], categories), wanted, categories, how)
    assert found.dtype == np.float64
    blank = np.full((4, 1), np.nan)
    joined = aggregate_views(paths, views, how)[1]
    np.testing.assert_array_equal(found[0], np.hstack([blank, joined])[::-1])
    np.testing.assert_array_equal(found[1], np.hstack([foreign[:4, 1:], blank, foreign[:4, :1]])[::-1])


def test_a_members_categories_are_found_by_name(member, names, rng):
    scores = rng.random((4, 2))
    found = aligned([member("a", scores)], names(4), ("Edema", "Fracture", "Cardiomegaly"), "max")
    np.testing.assert_array_equal(found[0, :, [0, 2]].T, scores[:, ::-1])
    assert np.isnan(found[0, :, 1]).all()


def test_a_member_that_lacks_studies_is_named_with_the_first_few(member, names, rng):
    members = [member("whole", rng.random((9, 2))), member("part", rng.random((4, 2)))]
    with pytest.raises(
        PredictionsError,
        match=r"^member part has no row for 5 of 9 studies: .*/patient00002/study1, .*, .* and 2 more; "
        r"`--missing drop` leaves them out$",
    ):
        aligned(members, names(9), CATEGORIES, "max")
    shared = shared_studies(members, names(9)[::-1])
    assert shared == names(4)[::-1]
    assert aligned(members, shared, CATEGORIES, "max").shape == (2, 4, 2)


def test_a_member_of_other_studies_is_told_with_one_of_each(member, names, rng):
    members = [member("a", rng.random((4, 2))), member("b", rng.random((4, 2)), studies=["p/1", "p/2", "q/1", "q/2"])]
    message = (
        r"^b\.csv seems to be of other studies: it has q/2, the labels have Tiny/valid/patient00000/study1; "
        r"both must name studies in the same way$"
    )
    with pytest.raises(PredictionsError, match=message):
        aligned(members, names(4), CATEGORIES, "max")
    with pytest.raises(PredictionsError, match=message):
        shared_studies(members, names(4))


def test_members_that_share_no_study_are_told(member, names, rng):
    first, second = names(4)[:2], names(4)[2:]
    members = [member("a", rng.random((2, 2)), studies=first), member("b", rng.random((2, 2)), studies=second)]
    with pytest.raises(PredictionsError, match=r"^no study is left that every member has: b has none of those that"):
        shared_studies(members, names(4))
    assert shared_studies(members, []) == []


# ---- copies


def test_copies_are_found_among_whoever_predicts_the_same_categories(member, rng):
    scores = rng.random((4, 2))
    nearly = np.nextafter(scores, 1)
    members = [
        member("a", scores),
        member("b", rng.random((4, 2))),
        member("c", scores[:, ::-1], categories=CATEGORIES[::-1]),
        member("d", nearly),
        member("e", scores[:, :1], categories=CATEGORIES[:1]),
        member("f", nearly),
        member("g", scores),
        member("h", scores[:, :1], categories=CATEGORIES[:1]),
    ]
    studies = members[0].rows.studies
    assert copies(members, studies, CATEGORIES) == [("a", "c", "g"), ("d", "f"), ("e", "h")]
    assert copies(members[:2], studies, CATEGORIES) == []


def test_copies_are_compared_on_given_studies_by_the_highest_view(make_run, write_views, write_scores, names, rng):
    views = rng.random((8, 2))
    run = make_run("a", names(4), rng.random((4, 2)))
    write_views(run, names(4), views)
    more = np.vstack([views.reshape(4, 2, 2).max(axis=1), rng.random((1, 2))])
    csv = write_scores("joined", names(5), more)
    assert copies(gather([run], [csv], CATEGORIES), names(4), CATEGORIES) == [("a", "joined")]


def test_minus_nought_is_nought(member):
    members = [member(name, [[each, 1.0], [0.5, 0.5]]) for name, each in (("a", 0.0), ("b", -0.0))]
    assert copies(members, members[0].rows.studies, CATEGORIES) == [("a", "b")]
