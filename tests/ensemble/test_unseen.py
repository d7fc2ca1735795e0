"""Whether studies are unseen: said only where every run, CSV and search behind the numbers tells of it."""

import pytest

from cxr_cft.artifacts import write_csv
from cxr_cft.data.truth import read_labels
from cxr_cft.ensemble.file import MemberEntry
from cxr_cft.ensemble.unseen import part_of, runs_behind
from cxr_cft.training.folds import fold_name


def path_of(patient):
    return f"made/train/patient{patient}/study1/view1_frontal.jpg"


def labelled(path, patients):
    write_csv(path, ["Path", "Edema"], [[path_of(patient), place % 2] for place, patient in enumerate(patients)])
    return path


def run_of(folder, **patients):
    """A folder that says whom its run used, by split."""
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    rows = [[path_of(patient), split] for split, each in patients.items() for patient in each]
    write_csv(folder / "split.csv", ["Path", "split"], rows)
    return folder


def member(name, kind, source):
    unknown = dict.fromkeys(("alone", "counted", "correlation", "gain"))
    return MemberEntry(
        name=name, kind=kind, source=str(source), tuned=False, fingerprint="", by_view=False, scales={}, **unknown
    )


@pytest.fixture
def truth(tmp_path):
    return read_labels(labelled(tmp_path / "test.csv", [1, 2, 3]), ["Edema"])


@pytest.mark.parametrize(
    ("splits", "number"),
    [
        ({"train": [7]}, 0),
        ({"train": [2, 7]}, 1),
        ({"train": [7], "valid": [1, 3]}, 2),
        ({"train": [7], "test": [1]}, 0),
    ],
)
def test_patients_of_training_and_validation_are_seen(truth, tmp_path, splits, number):
    part = part_of(truth, [run_of(tmp_path / "mine", **splits)], (), {})
    assert part.unseen == (number == 0)
    assert not part.unknown
    told = f"{number} of the 3 patients, by their names, were trained or validated on by mine"
    assert part.seen == ((told,) if number else ())


def test_the_patients_of_several_runs_are_counted_once(truth, tmp_path):
    runs = [
        run_of(tmp_path / "a", train=[1, 2]),
        run_of(tmp_path / "b", valid=[2, 3]),
        run_of(tmp_path / "c", train=[9]),
    ]
    assert part_of(truth, [*runs, runs[0]], (), {}).seen == (
        "3 of the 3 patients, by their names, were trained or validated on by a, b",
    )


def test_runs_of_one_name_are_told_apart(truth, tmp_path):
    (tmp_path / "other").mkdir()
    runs = [run_of(tmp_path / "a", train=[1]), run_of(tmp_path / "other" / "a", train=[2])]
    assert part_of(truth, runs, (), {}).seen[0].startswith("2 of the 3 patients")


@pytest.mark.parametrize("content", [None, "Path,split\n", "Path\nx\n"])
def test_a_run_that_does_not_say_whom_it_saw_is_not_known(truth, tmp_path, content):
    silent = run_of(tmp_path / "silent")
    (silent / "split.csv").unlink()
    if content:
        (silent / "split.csv").write_text(content)
    again = silent / ".." / "silent"
    part = part_of(truth, [silent, run_of(tmp_path / "mine", train=[7]), again], (), {})
    assert not part.unseen
    assert not part.seen
    assert part.unknown == ("whom silent learnt from is not known, for want of a split.csv",)


def test_nothing_at_all_and_csvs_alone_are_not_known(truth):
    assert part_of(truth, [], (), {}).unknown == ("there is no run that says whom it learnt from",)
    assert part_of(truth, [], ["theirs"], {}).unknown == ("nothing is known of what theirs has seen",)


def test_behind_members_are_their_runs_where_they_lie_now(tmp_path):
    near = tmp_path / "near"
    near.mkdir()
    own, moved = run_of(tmp_path / "own", train=[7]), run_of(near / "moved", train=[7])
    members = [
        member("own", "run", own),
        member("own.cft", "run", own),
        member("moved", "run", tmp_path / "gone" / "moved"),
        member("theirs", "csv", tmp_path / "theirs.csv"),
        member("base-2folds", "folds", tmp_path / "gone" / "base-2folds.csv"),
    ]
    folders, foreign = runs_behind(members, near)
    assert folders == [own, own, moved, *(near / fold_name("base", f"{part}/2") for part in range(2))]
    assert foreign == ["theirs"]


def test_joined_folds_are_known_by_all_their_runs(truth, tmp_path):
    csv = labelled(tmp_path / "base-2folds.csv", [1])
    first, second = (fold_name("base", f"{part}/2") for part in range(2))
    run_of(tmp_path / first, train=[7], valid=[8])
    folders, foreign = runs_behind([member("base-2folds", "folds", csv)])
    assert not foreign
    assert part_of(truth, folders, foreign, {}).unknown == (
        f"whom {second} learnt from is not known, for want of a split.csv",
    )
    run_of(tmp_path / second, train=[8], valid=[7])
    assert part_of(truth, folders, foreign, {}).unseen
