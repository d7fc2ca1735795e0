"""What has been found is found again for the very same problem, whole, or not at all."""

import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from cxr_cft.artifacts import open_run
from cxr_cft.cft import Options, store, tune_run
from cxr_cft.cft.category import tune_category
from cxr_cft.cft.choice import Groups
from cxr_cft.cft.heads import pose
from cxr_cft.cft.store import SearchFile, Store


class Killed(BaseException):
    """What no handler catches."""


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 5))
    labels = (features[:, :2] + rng.normal(size=(80, 2)) > 0).astype(float)
    train, valid = (features[:40], labels[:40]), (features[40:], labels[40:])
    return pose(rng.normal(size=(2, 5)), np.zeros(2), train, valid, ("bce",), names=("A", "B"))


@pytest.fixture(scope="module")
def found(problem):
    return tune_category(problem, 0)


@pytest.fixture
def kept(problem, found, tmp_path):
    """A store that holds category 0 and a state of the search for category 1."""
    kept = Store(tmp_path, problem, ["train", "valid"])
    kept.save(0, found)
    remember(kept, 1)
    return kept


def remember(kept, c):
    memory = kept.memory(c)
    memory.saved = -np.inf
    memory.save(lambda: {"population": np.arange(6.0).reshape(2, 3)})


def test_what_was_kept_is_given_back_to_the_last_bit(kept, found):
    again = kept.load(0)
    np.testing.assert_array_equal(again.weight, found.weight)
    assert again.bias == found.bias
    assert again.row == found.row
    assert again.gain.value == found.gain.value
    np.testing.assert_array_equal(again.gain.without, found.gain.without)
    np.testing.assert_array_equal(kept.memory(1).load()["population"], [[0, 1, 2], [3, 4, 5]])
    assert kept.load(1) is None
    assert kept.memory(0).load() is None


def test_a_category_that_could_not_be_tried_is_kept_too(tmp_path, problem):
    labels = np.full_like(problem.train.labels, np.nan)
    untold = replace(problem, train=replace(problem.train, labels=labels))
    tuned = tune_category(untold, 1)
    Store(tmp_path, untold, []).save(1, tuned)
    again = Store(tmp_path, untold, []).load(1)
    assert again.row == tuned.row
    assert np.isnan(again.gain.value)
    assert np.isnan(again.gain.without).all()


def changed_labels(rows, category):
    labels = rows.labels.copy()
    labels[0, category] = 1 - labels[0, category]
    return replace(rows, labels=labels)


CHANGES = {
    "methods": ("bce", "ga"),
    "metric": "average_precision",
    "seed": 1,
    "options": Options(rule="interval"),
    "names": ("C", "D"),
    "groups": Groups.of(np.arange(40) // 2, 0),
}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("part", CHANGES)
def test_what_was_found_by_other_means_is_not_found(problem, tmp_path, part):
    assert_not_found(Store(tmp_path, replace(problem, **{part: CHANGES[part]}), ["train", "valid"]))


def assert_not_found(other):
    assert other.load(0) is None
    assert other.memory(1).load() is None


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("field", [field.name for field in fields(Options)])
def test_what_was_found_with_another_option_is_not_found(problem, tmp_path, field):
    other = {"rule": "interval", "pulls": (1.0,), "population": 49, "generations": 201, "patience": 31}.get(field, 0.25)
    options = replace(problem.options, **{field: other})
    assert_not_found(Store(tmp_path, replace(problem, options=options), ["train", "valid"]))


@pytest.mark.usefixtures("kept")
def test_what_was_found_for_other_labels_or_another_head_is_not_found(problem, tmp_path):
    for changed in (
        {"train": changed_labels(changed_labels(problem.train, 0), 1)},
        {"valid": changed_labels(changed_labels(problem.valid, 0), 1)},
        {"weight": problem.weight + 1e-9},
        {"bias": problem.bias + 1e-9},
    ):
        assert_not_found(Store(tmp_path, replace(problem, **changed), ["train", "valid"]))


@pytest.mark.usefixtures("kept")
def test_other_features_or_another_version_of_the_code_make_another_problem(problem, tmp_path, monkeypatch):
    others = [Store(tmp_path, problem, ["train", "other"])]
    monkeypatch.setattr(store, "__version__", "99")
    others.append(Store(tmp_path, problem, ["train", "valid"]))
    monkeypatch.undo()
    monkeypatch.setattr(store, "_code", lambda: "other sources")
    others.append(Store(tmp_path, problem, ["train", "valid"]))
    for other in others:
        assert_not_found(other)


def test_the_fingerprint_of_the_sources_changes_with_any_that_decides_a_result(tmp_path, monkeypatch):
    package = Path(store.__file__).parents[1]
    copied = Path(shutil.copytree(package, tmp_path / "cxr_cft", ignore=shutil.ignore_patterns("__pycache__")))
    monkeypatch.setattr(store, "__file__", str(copied / "cft" / "store.py"))
    code = store._code.__wrapped__
    seen = {code()}
    assert seen == {store._code()}
    for part in ("cft/solver.py", "metrics/ranking.py", "search/breeding.py"):
        with (copied / part).open("a") as file:
            file.write("# another\n")
        seen.add(code())
    assert len(seen) == 4
    (copied / "cli" / "main.py").write_text("")
    assert code() in seen


@pytest.mark.usefixtures("kept")
def test_another_categorys_labels_leave_a_category_as_it_was_found(problem, tmp_path, found):
    other = Store(tmp_path, replace(problem, train=changed_labels(problem.train, 1)), ["train", "valid"])
    assert other.load(0).bias == found.bias
    assert other.load(1) is None


def test_one_categorys_file_in_the_place_of_anothers_is_not_taken_for_it(kept, tmp_path):
    shutil.copy(tmp_path / "0000.safetensors", tmp_path / "0001.safetensors")
    shutil.copy(tmp_path / "0001.search.safetensors", tmp_path / "0000.search.safetensors")
    assert kept.load(1) is None
    assert kept.memory(0).load() is None


def read_both(kept):
    return kept.load(0), kept.memory(1).load()


def test_a_file_cut_short_anywhere_is_as_if_absent(kept, tmp_path):
    for name in ("0000.safetensors", "0001.search.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for size in range(len(whole)):
            (tmp_path / name).write_bytes(whole[:size])
            assert None in read_both(kept), (name, size)
        (tmp_path / name).write_bytes(whole)
    assert None not in read_both(kept)


@pytest.mark.parametrize("bit", [0, 3])
def test_a_damaged_byte_anywhere_makes_a_file_as_if_absent(kept, tmp_path, bit):
    for name in ("0000.safetensors", "0001.search.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for at in range(len(whole)):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            (tmp_path / name).write_bytes(damaged)
            assert None in read_both(kept), (name, at)
        (tmp_path / name).write_bytes(whole)


def test_a_file_of_anything_else_or_a_folder_in_its_place_is_as_if_absent(kept, tmp_path):
    (tmp_path / "0000.safetensors").write_text("{}")
    (tmp_path / "0001.safetensors").mkdir()
    assert kept.load(0) is None
    assert kept.load(1) is None


def test_a_result_clears_the_state_of_its_search(kept, found, tmp_path):
    kept.save(1, found)
    assert kept.memory(1).load() is None
    assert {path.name for path in tmp_path.iterdir()} == {"0000.safetensors", "0001.safetensors"}


def test_a_state_is_only_made_and_written_now_and_then(kept, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(store.time, "monotonic", lambda: now[0])
    memory, made = kept.memory(0), []
    memory.saved = now[0]

    def state():
        made.append(now[0])
        return {"at": np.array(now[0])}

    for _ in range(31):
        memory.save(state)
        now[0] += 1
    assert made == [1010.0, 1020.0, 1030.0]
    assert memory.load()["at"] == 1030.0


# ---- the genetic search of a run


def count_saves(monkeypatch, killed_at=None):
    saves = []
    save = SearchFile.save

    def counting(memory, state):
        save(memory, state)
        saves.append(memory.path)
        if len(saves) == killed_at:
            raise Killed

    monkeypatch.setattr(SearchFile, "save", counting)
    return saves


@pytest.fixture
def often(monkeypatch):
    """Every generation's state is written."""
    monkeypatch.setattr(store, "SAVE_EVERY", 0)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("generations", [1, 10, 29])
def test_killed_in_the_middle_of_a_search_it_goes_on_from_there_to_the_same_result(
    run, tmp_path, with_settings, outcome, monkeypatch, generations
):
    run = with_settings(run, "cft", methods=["ga"], generations=30)
    whole = open_run(shutil.copytree(run.path, tmp_path / "whole" / "small"))
    with monkeypatch.context() as patch:
        saves = count_saves(patch)
        tune_run(whole)
        of_first = [path.name for path in saves].count("0000.search.safetensors")
        assert of_first == 30
    with monkeypatch.context() as patch:
        count_saves(patch, killed_at=generations)
        with pytest.raises(Killed):
            tune_run(run)
    assert [path.name for path in (run.path / "cft").iterdir()] == ["0000.search.safetensors"]
    with monkeypatch.context() as patch:
        rest = count_saves(patch)
        tune_run(run)
    assert len(rest) == len(saves) - generations
    assert {path.name for path in (run.path / "cft").iterdir()} == {f"{c:04d}.safetensors" for c in range(4)}
    assert outcome(run) == outcome(whole)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    "change",
    [
        lambda run, with_settings: with_settings(run, "cft", methods=["ga"], generations=31),
        lambda run, with_settings: with_settings(run, "cft", methods=["bce", "ga"], generations=30),
        lambda run, _: damage(run) or run,
    ],
    ids=["options", "methods", "damaged"],
)
def test_a_state_that_does_not_fit_is_not_gone_on_with(run, tmp_path, with_settings, outcome, monkeypatch, change):
    run = with_settings(run, "cft", methods=["ga"], generations=30)
    with monkeypatch.context() as patch:
        count_saves(patch, killed_at=20)
        with pytest.raises(Killed):
            tune_run(run)
    changed = change(run, with_settings)
    whole = open_run(shutil.copytree(run.path, tmp_path / "whole" / "small", ignore=shutil.ignore_patterns("cft")))
    counted = []
    for each in (changed, whole):
        with monkeypatch.context() as patch:
            saves = count_saves(patch)
            tune_run(each)
            counted.append(len(saves))
    assert counted[0] == counted[1]
    assert outcome(changed) == outcome(whole)


def damage(run):
    path = run.path / "cft" / "0000.search.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
