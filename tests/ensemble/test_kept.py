"""What an interrupted search goes on from is of the same problem, whole, or not used at all."""

import numpy as np
import pytest

from cxr_cft.ensemble import finders, kept
from cxr_cft.ensemble.finders import Found
from cxr_cft.ensemble.kept import KeptSearches
from cxr_cft.ensemble.problem import Problem


@pytest.fixture
def given(rng):
    """The parts of a problem, to change."""
    labels = (rng.random((12, 2)) < 0.5).astype(np.float64)
    return {
        "scores": {"max": rng.random((3, 12, 2)), "mean": rng.random((3, 12, 2))},
        "labels": labels,
        "patients": np.arange(12) // 2,
        "scored": [0, 1],
        "seed": 0,
    }


@pytest.fixture
def found(rng):
    def found(finder="ga"):
        return Found({finder: rng.random((3, 2)), "best": rng.random((3, 2))}, rng.random(3))

    return found


def same(one, other):
    return (
        set(one.weights) == set(other.weights)
        and all(one.weights[name].tobytes() == other.weights[name].tobytes() for name in one.weights)
        and one.counted.tobytes() == other.counted.tobytes()
    )


def test_searches_come_back_to_the_last_bit(given, found, tmp_path):
    first = KeptSearches(tmp_path / "k", Problem(**given))
    assert first == {}
    made = {"max/zlogit": found("ga-category"), "max/zlogit/0": found(), "mean/rank/0/3": found()}
    for name, each in made.items():
        first[name] = each
    again = KeptSearches(tmp_path / "k", Problem(**given))
    assert set(again) == set(made)
    assert all(same(again[name], each) for name, each in made.items())


def test_those_that_came_back_are_written_with_those_that_are_added(given, found, tmp_path):
    for name in "abc":
        KeptSearches(tmp_path / "k", Problem(**given))[name] = found()
    assert set(KeptSearches(tmp_path / "k", Problem(**given))) == set("abc")


def test_each_search_is_in_the_file_as_soon_as_it_is_kept(given, found, tmp_path):
    searches = KeptSearches(tmp_path / "sub" / "k", Problem(**given))
    assert not (tmp_path / "sub").exists()
    for number, name in enumerate("abc", start=1):
        searches[name] = found()
        assert len(KeptSearches(tmp_path / "sub" / "k", Problem(**given))) == number
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["k"]


def test_killed_while_writing_it_is_as_it_was_before(given, found, tmp_path, killed_at, monkeypatch):
    searches = KeptSearches(tmp_path / "k", Problem(**given))
    searches["a"] = found()
    step = 0
    while True:
        with monkeypatch.context() as patch:
            if not killed_at(step, patch, lambda: searches.__setitem__("b", found())):
                break
        assert set(KeptSearches(tmp_path / "k", Problem(**given))) in ({"a"}, {"a", "b"})
        step += 1
    assert step > 1
    assert set(KeptSearches(tmp_path / "k", Problem(**given))) == {"a", "b"}


def moved(array, index):
    array = array.copy()
    array[index] = np.nextafter(array[index], 1)
    return array


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given | {"seed": 1},
        lambda given: given | {"scored": [0]},
        lambda given: given | {"labels": np.where(np.arange(24).reshape(12, 2) == 5, np.nan, given["labels"])},
        lambda given: given | {"patients": np.arange(12) // 3},
        lambda given: given | {"scores": {**given["scores"], "mean": moved(given["scores"]["mean"], (0, 3, 1))}},
        lambda given: given | {"scores": {"max": given["scores"]["max"]}},
        lambda given: given | {"scores": {"max": given["scores"]["mean"], "mean": given["scores"]["max"]}},
    ],
    ids=["seed", "scored", "label", "patients", "score", "fewer ways", "ways changed"],
)
def test_searches_of_another_problem_are_not_used(given, found, tmp_path, change):
    KeptSearches(tmp_path / "k", Problem(**given))["a"] = found()
    assert KeptSearches(tmp_path / "k", Problem(**change(given))) == {}
    assert set(KeptSearches(tmp_path / "k", Problem(**given))) == {"a"}


@pytest.mark.parametrize("size", ["BAGS", "BAG_STUDIES", "POPULATION", "GENERATIONS", "GREEDY_STEPS"])
def test_searches_of_another_size_are_not_used(given, found, tmp_path, monkeypatch, size):
    KeptSearches(tmp_path / "k", Problem(**given))["a"] = found()
    monkeypatch.setattr(finders, size, getattr(finders, size) + 1)
    assert KeptSearches(tmp_path / "k", Problem(**given)) == {}


def test_searches_of_another_version_are_not_used(given, found, tmp_path, monkeypatch):
    KeptSearches(tmp_path / "k", Problem(**given))["a"] = found()
    monkeypatch.setattr(kept, "version", lambda _: "0.0.0")
    assert KeptSearches(tmp_path / "k", Problem(**given)) == {}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all", b"\x80\x04K\x01."])
def test_a_file_of_something_else_is_as_good_as_none_and_is_replaced(given, found, tmp_path, content):
    (tmp_path / "k").write_bytes(content)
    searches = KeptSearches(tmp_path / "k", Problem(**given))
    assert searches == {}
    searches["a"] = found()
    assert set(KeptSearches(tmp_path / "k", Problem(**given))) == {"a"}


def test_an_archive_or_an_array_of_others_is_as_good_as_none(given, tmp_path):
    np.savez(tmp_path / "k.npz", other=np.zeros(3))
    np.save(tmp_path / "k.npy", np.zeros(3))
    for file in ("k.npz", "k.npy"):
        assert KeptSearches(tmp_path / file, Problem(**given)) == {}


def test_an_archive_that_lacks_a_part_of_a_search_is_as_good_as_none(given, tmp_path):
    identity = KeptSearches(tmp_path / "k", Problem(**given)).identity
    with (tmp_path / "k").open("wb") as file:
        np.savez(file, **{"identity": np.array(identity), "a ga": np.zeros((3, 2))})
    assert KeptSearches(tmp_path / "k", Problem(**given)) == {}


def test_no_pickle_is_loaded(given, tmp_path, capsys):
    identity = KeptSearches(tmp_path / "k", Problem(**given)).identity

    class Trap:
        def __reduce__(self):
            return print, ("loaded",)

    arrays = {"identity": np.array(identity), "a ga": np.array([Trap()], dtype=object)}
    with (tmp_path / "k").open("wb") as file:
        np.savez(file, **arrays)
    assert KeptSearches(tmp_path / "k", Problem(**given)) == {}
    assert not capsys.readouterr().out


def test_a_damaged_file_is_never_taken_for_another_search(given, found, tmp_path):
    searches = KeptSearches(tmp_path / "k", Problem(**given))
    searches["a"], searches["b"] = found(), found()
    whole = (tmp_path / "k").read_bytes()
    rng = np.random.default_rng(0)
    cut = [whole[:end] for end in range(0, len(whole), 97)]
    flipped = []
    for place in rng.integers(len(whole), size=200):
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        flipped.append(bytes(content))
    for content in (*cut, *flipped):
        (tmp_path / "k").write_bytes(content)
        for name, each in KeptSearches(tmp_path / "k", Problem(**given)).items():
            assert same(each, searches[name])
