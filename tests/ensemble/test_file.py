"""The ensemble file holds all that a blend needs, and nothing that is not understood is blended."""

import json

import numpy as np
import pytest

from cxr_cft.ensemble import read_ensemble, search_weights, write_ensemble
from cxr_cft.ensemble.file import CANDIDATES
from cxr_cft.errors import CxrCftError, PredictionsError

CATEGORIES = ("Cardiomegaly", "Edema")


@pytest.fixture(scope="session")
def found_once():
    """What was found, by a name of its own: a search for every test would be the same one."""
    return {}


@pytest.fixture
def found(found_once, member, made, names):
    if not found_once:
        labels, scores = made(np.random.default_rng(1), 60, (1.0, 3.0, 2.0))
        members = [member(name, part) for name, part in zip("abc", scores, strict=True)]
        members[2] = member("c", scores[2][:, :1], CATEGORIES[:1])
        found_once["found"] = search_weights(members, names(60), labels, CATEGORIES)
    return found_once["found"]


@pytest.fixture
def content(found, tmp_path):
    write_ensemble(tmp_path / "e.json", found)
    return json.loads((tmp_path / "e.json").read_text())


@pytest.fixture
def scores():
    scores = np.random.default_rng(0).random((3, 20, 2))
    scores[2, :, 1] = np.nan
    return scores


def test_a_file_comes_back_as_it_was_written(found, tmp_path, scores):
    write_ensemble(tmp_path / "sub" / "e.json", found)
    again = read_ensemble(tmp_path / "sub" / "e.json")
    assert again == found
    for name in CANDIDATES:
        assert again.using(name).blend(scores).tobytes() == found.using(name).blend(scores).tobytes()
    write_ensemble(tmp_path / "again.json", again)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "sub" / "e.json").read_bytes()


def test_it_says_who_took_part_with_what_and_by_which_version(content, found):
    assert set(content) >= {"version", "seed", "settings", "categories", "members", "candidates", "recommended"}
    assert content["version"] == found.version
    assert [entry["fingerprint"] for entry in content["members"]] == ["0" * 64] * 3
    assert set(content["candidates"]) == set(CANDIDATES)
    for candidate in content["candidates"].values():
        assert set(candidate) >= {"fitted", "out_of_fold", "interval", "difference", "weights", "scale"}


@pytest.mark.parametrize("which", CANDIDATES)
def test_any_candidate_can_be_used_and_the_file_says_which(found, which, scores):
    used = found.using(which)
    assert (used.chosen, used.recommended) == (which, found.recommended)
    assert used.candidate == found.candidates[which]
    np.testing.assert_array_equal(used.weights(), found.weights(which))
    assert used.members == found.members
    blend = used.blend(scores)
    assert ((blend > 0) & (blend < 1)).all()
    if which == "equal":
        assert not np.allclose(blend, found.using("best").blend(scores))


def test_chosen_weights_are_the_files_own(found):
    assert found.using("chosen") is found
    np.testing.assert_array_equal(found.weights(), found.weights(found.chosen))


def test_a_blend_is_the_weighted_mean_on_the_members_scales_turned_into_a_probability(found, scores):
    scores = np.clip(scores, 0.05, 0.95)  # where no line bends
    for name in ("equal", "ga"):
        candidate = found.candidates[name]
        lines = [entry.scales[candidate.scale] for entry in found.members]
        logits = np.log(scores / (1 - scores))
        for c, category in enumerate(CATEGORIES):
            x = logits if all(line[category].logit for line in lines[:2]) else scores
            members = [m for m in range(3) if category in candidate.weights["abc"[m]]]
            z = sum(
                candidate.weights["abc"[m]][category]
                * (x[m, :, c] * lines[m][category].slope + lines[m][category].intercept)
                for m in members
            )
            logit = z * candidate.output[category].slope + candidate.output[category].intercept
            np.testing.assert_allclose(found.using(name).blend(scores)[:, c], 1 / (1 + np.exp(-logit)))


# ---- what is refused


def put(key, value):
    def change(content):
        *path, last = key.split(".")
        for part in path:
            content = content[int(part)] if part.isdigit() else content[part]
        content[last] = value

    return change


def without(key):
    def change(content):
        *path, last = key.split(".")
        for part in path:
            content = content[int(part)] if part.isdigit() else content[part]
        del content[last]

    return change


CURVE = r"e\.json is no ensemble file: members\.0\.scales\.platt\.Edema\."


def no_weights(content):
    for weights in content["candidates"]["ga"]["weights"].values():
        weights["Edema"] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("colour", 1), r"e\.json is no ensemble file: colour: Extra inputs are not permitted"),
        (put("members.1.weigth", 1), r"members\.1\.weigth: Extra inputs are not permitted"),
        (put("members.0.scales.platt.Edema.slope", -1), r"members\.0\.scales\.platt\.Edema\..*greater than or equal"),
        (put("members.0.scales.platt.Edema.slope", float("nan")), r"members\.0\.scales\.platt\.Edema\..*finite"),
        (put("members.0.scales.platt.Edema.edge", 0.5), r"members\.0\.scales\.platt\.Edema\..*less than 0\.5"),
        (put("members.0.scales.platt.Edema", {"logit": True, "x": [0, 1], "y": [1, 1]}), CURVE),
        (put("members.0.scales.platt.Edema", {"logit": True, "x": [0], "y": [1]}), CURVE),
        (put("members.0.scales.platt.Edema", {"logit": True, "x": [0, 1], "y": [0, 1, 2]}), CURVE),
        (put("candidates.ga.output.Edema.slope", 0), r"candidates\.ga\.output\.Edema\.slope: .*greater than 0"),
        (put("candidates.ga.output.Edema.intercept", float("inf")), r"output\.Edema\.intercept: .*finite"),
        (put("candidates.ga.fitted", float("nan")), r"candidates\.ga\.fitted: .*finite"),
        (put("candidates.ga.shrinkage", 1.5), r"candidates\.ga\.shrinkage: .*less than or equal to 1"),
        (put("candidates.ga.weights.a.Edema", -0.1), "candidate ga gives a the weight -0.1 for Edema"),
        (put("candidates.ga.weights.a.Edema", float("inf")), r"candidates\.ga\.weights\.a\.Edema: .*finite"),
        (put("candidates.ga.weights.c.Edema", 0.5), "candidate ga gives c the weight 0.5 for Edema"),
        (put("candidates.ga.scale", "magic"), "candidate ga gives a the weight .* for Cardiomegaly"),
        (without("candidates.ga.weights.b"), "candidate ga does not weigh exactly the members"),
        (no_weights, "candidate ga gives no member a weight for Edema"),
        (without("candidates.ga.prior.Edema"), "candidate ga has not an output and a prior for each category"),
        (without("candidates.ga.output.Edema"), "candidate ga has not an output and a prior for each category"),
        (without("candidates.ga.prior"), r"candidates\.ga\.prior: Field required"),
        (put("chosen", "magic"), "there is no candidate magic"),
        (put("recommended", "magic"), "there is no candidate magic"),
        (put("aggregation", "median"), "views cannot be joined by median"),
        (put("categories", ["Edema"]), "has not an output and a prior for each category"),
        (put("members", []), "no ensemble file: Value error, there must be members, each with a name of its own"),
        (put("members.1.name", "a"), "there must be members, each with a name of its own"),
        (put("members.1.name", "d"), "candidate equal does not weigh exactly the members"),
        (without("version"), "version: Field required"),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_the_place(content, tmp_path, change, message):
    change(content)
    (tmp_path / "e.json").write_text(json.dumps(content))
    with pytest.raises(PredictionsError, match=message):
        read_ensemble(tmp_path / "e.json")


def test_a_file_of_an_older_version_asks_for_another_search(tmp_path):
    old = {"categories": ["Edema"], "members": [{"name": "a", "weight": 1.0}], "equal": {}, "ga": {}, "chosen": "ga"}
    (tmp_path / "e.json").write_text(json.dumps(old))
    with pytest.raises(
        PredictionsError, match=r"e\.json was written by an older version; search again with `cxr-cft en"
    ):
        read_ensemble(tmp_path / "e.json")


@pytest.mark.parametrize(
    ("text", "message"), [("{", "could not be read as JSON"), ("[]", "does not hold a JSON object")]
)
def test_a_file_that_is_no_json_object_is_refused(tmp_path, text, message):
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(CxrCftError, match=message):
        read_ensemble(tmp_path / "e.json")


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(CxrCftError, match=r"there is no ensemble file .*e\.json; make one by `cxr-cft ensemble`"):
        read_ensemble(tmp_path / "e.json")
