"""The ensemble file holds all that a blend needs, and nothing that is not understood is blended."""

import json

import numpy as np
import pytest

from cxr_cft.ensemble import read_ensemble, search_weights, write_ensemble
from cxr_cft.errors import CxrCftError, PredictionsError

CATEGORIES = ("Cardiomegaly", "Edema")


@pytest.fixture
def found(member, made, names):
    labels, scores = made(np.random.default_rng(1), 60, (1.0, 3.0, 2.0))
    members = [member(name, part) for name, part in zip("abc", scores, strict=True)]
    return search_weights(members, names(60), labels, CATEGORIES)


@pytest.fixture
def content(found, tmp_path):
    write_ensemble(tmp_path / "e.json", found)
    return json.loads((tmp_path / "e.json").read_text())


def test_a_file_comes_back_as_it_was_written(found, tmp_path):
    write_ensemble(tmp_path / "sub" / "e.json", found)
    again = read_ensemble(tmp_path / "sub" / "e.json")
    assert again == found
    scores = np.random.default_rng(0).random((3, 20, 2))
    assert again.blend(scores).tobytes() == found.blend(scores).tobytes()


@pytest.mark.parametrize("which", ["equal", "ga"])
def test_either_weights_can_be_used_and_the_file_says_which(found, which):
    used = found.using(which)
    expected = (found.equal if which == "equal" else found.ga).weights
    assert {entry.name: entry.weight for entry in used.members} == expected
    assert used.chosen == which
    assert [entry.scale for entry in used.members] == [entry.scale for entry in found.members]
    assert sum(expected.values()) == pytest.approx(1)


def test_chosen_weights_are_the_files_own(found):
    assert found.using("chosen") is found
    assert found.using(found.chosen).members == found.members
    assert found.equal.weights != found.ga.weights


def test_using_other_weights_changes_the_blend(found):
    scores = np.random.default_rng(0).random((3, 20, 2))
    assert not np.allclose(found.using("equal").blend(scores), found.using("ga").blend(scores))


def put(key, value):
    def change(content):
        *path, last = key.split(".")
        for part in path:
            content = content[int(part)] if part.isdigit() else content[part]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("colour", 1), r"e\.json is no ensemble file: colour: Extra inputs are not permitted"),
        (put("members.1.weigth", 1), r"members\.1\.weigth: Extra inputs are not permitted"),
        (put("members.0.scale.Edema.spread", 0), r"members\.0\.scale\.Edema\.spread: .*greater than 0"),
        (put("members.0.scale.Edema.center", float("nan")), r"members\.0\.scale\.Edema\.center: .*finite"),
        (put("members.0.weight", -0.1), r"members\.0\.weight: .*greater than or equal to 0"),
        (put("members.0.weight", float("inf")), r"members\.0\.weight: .*finite"),
        (put("chosen", "best"), "chosen: .*'equal' or 'ga'"),
        (put("categories", ["Edema"]), "no ensemble file: Value error, member a has not a scale for each category"),
        (put("members", []), "no ensemble file: Value error, there must be members, each with a name of its own"),
        (put("members.1.name", "a"), "there must be members, each with a name of its own"),
        (put("members.1.name", "d"), "equal and ga do not weigh exactly the members"),
        (put("ga.weights", {"a": 1.0}), "equal and ga do not weigh exactly the members"),
        (lambda content: [entry.update(weight=0) for entry in content["members"]], "no member has a weight above 0"),
        (lambda content: content.pop("prior"), "prior: Field required"),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_the_place(content, tmp_path, change, message):
    change(content)
    (tmp_path / "e.json").write_text(json.dumps(content))
    with pytest.raises(PredictionsError, match=message):
        read_ensemble(tmp_path / "e.json")


@pytest.mark.parametrize(
    ("text", "message"), [("{", "could not be read as JSON"), ("[]", "does not hold a JSON object")]
)
def test_a_file_that_is_no_json_object_is_refused(tmp_path, text, message):
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(CxrCftError, match=message):
        read_ensemble(tmp_path / "e.json")


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(CxrCftError, match=r"there is no file .*e\.json"):
        read_ensemble(tmp_path / "e.json")
