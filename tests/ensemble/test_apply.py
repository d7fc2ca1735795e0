"""Found weights on other rows: every member, by name, on the same studies."""

import numpy as np
import pytest

from cxr_cft.data.predictions import read_predictions
from cxr_cft.ensemble import blend_csvs, search_weights
from cxr_cft.errors import PredictionsError

CATEGORIES = ("Cardiomegaly", "Edema")


@pytest.fixture
def found(member, made, names):
    labels, scores = made(np.random.default_rng(1), 60, (1.0, 3.0))
    return search_weights([member("first", scores[0]), member("second", scores[1])], names(60), labels, CATEGORIES)


@pytest.fixture
def scores(rng):
    return rng.random((2, 8, 2))


def test_a_blend_of_csvs_is_the_files_blend_of_their_scores(found, write_scores, names, scores, tmp_path):
    studies = [name.replace("valid", "test") for name in names(8)]
    csvs = [write_scores("second", studies[::-1], scores[1, ::-1]), write_scores("first", studies, scores[0])]
    assert blend_csvs(found, [str(csv) for csv in csvs], tmp_path / "out" / "b.csv") == 8
    written = read_predictions(tmp_path / "out" / "b.csv", CATEGORIES)
    np.testing.assert_array_equal(written.rows(studies), found.blend(scores))
    assert set(written.studies) == set(studies)


def test_the_rows_that_were_searched_on_are_blended_as_the_search_saw_them(member, made, names, write_scores, tmp_path):
    from sklearn.metrics import roc_auc_score

    labels, parts = made(np.random.default_rng(1), 60, (1.0, 3.0))
    found = search_weights([member("a", parts[0]), member("b", parts[1])], names(60), labels, CATEGORIES)
    csvs = [str(write_scores(name, names(60), part)) for name, part in zip("ab", parts, strict=True)]
    for which in ("equal", "ga"):
        blend_csvs(found.using(which), csvs, tmp_path / "blended.csv")
        written = read_predictions(tmp_path / "blended.csv", CATEGORIES).rows(names(60))
        fitted = np.mean([roc_auc_score(labels[:, c], written[:, c]) for c in range(2)])
        assert fitted == pytest.approx(getattr(found, which).fitted)


def test_a_name_given_before_the_csv_goes_before_its_stem(found, write_scores, names, scores, tmp_path):
    first, second = write_scores("test", names(8), scores[0]), write_scores("first", names(8), scores[1])
    blend_csvs(found, [f"first={first}", f"second={second}"], tmp_path / "out.csv")
    written = read_predictions(tmp_path / "out.csv", CATEGORIES)
    np.testing.assert_array_equal(written.rows(names(8)), found.blend(scores))


def test_a_path_may_hold_an_equals_sign(found, write_scores, names, scores, tmp_path):
    (tmp_path / "lr=1").mkdir()
    csvs = []
    for name, part in zip(("first", "second"), scores, strict=True):
        csvs.append(str(write_scores(name, names(8), part).rename(tmp_path / "lr=1" / f"{name}.csv")))
    assert blend_csvs(found, csvs, tmp_path / "out.csv") == 8


@pytest.mark.parametrize(
    ("csvs", "message"),
    [
        (["first"], "no predictions are given of second; blending needs every member"),
        (["first", "second", "third"], r"third\.csv is of no member.*; members are first, second"),
        (["firts", "second"], r"firts\.csv is of no member \(did you mean 'first'\?\); members are first, second"),
        (["first", "second", "first"], r"member first is given twice: .*first\.csv and .*first\.csv"),
        (["first", "secnd=second"], r"secnd=.*second\.csv is of no member \(did you mean 'second'\?\); members are"),
    ],
)
def test_csvs_that_are_not_the_members_are_refused(found, write_scores, names, scores, tmp_path, csvs, message):
    def path(text):
        name, _, stem = text.rpartition("=")
        return (
            f"{name}={write_scores(stem, names(8), scores[0])}"
            if name
            else str(write_scores(stem, names(8), scores[0]))
        )

    with pytest.raises(PredictionsError, match=message):
        blend_csvs(found, [path(text) for text in csvs], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_studies_that_only_some_members_have_are_named(found, write_scores, names, scores, tmp_path):
    full = str(write_scores("first", names(8), scores[0]))
    short = str(write_scores("second", names(8)[:6], scores[1, :6]))
    with pytest.raises(
        PredictionsError, match=r"second\.csv has no row for 2 of 8 studies: Tiny/valid/patient00003/st"
    ):
        blend_csvs(found, [full, short], tmp_path / "out.csv")
    other = found.model_copy(update={"members": found.members[::-1]})
    with pytest.raises(
        PredictionsError, match=r"first\.csv has 2 studies that .*second\.csv lacks: Tiny/valid/patient"
    ):
        blend_csvs(other, [full, short], tmp_path / "out.csv")


def test_a_member_without_a_category_is_named(found, write_scores, names, scores, tmp_path):
    first = str(write_scores("first", names(8), scores[0]))
    second = str(write_scores("second", names(8), scores[1, :, :1], CATEGORIES[:1]))
    with pytest.raises(PredictionsError, match=r"second\.csv has no column Edema"):
        blend_csvs(found, [first, second], tmp_path / "out.csv")
