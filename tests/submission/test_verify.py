"""A rehearsal runs the bundle as a server would and holds its output against the competition's rules."""

import shutil

import pandas as pd
import pytest

from cxr_cft.data.labels import COMPETITION
from cxr_cft.errors import CxrCftError, SubmissionError
from cxr_cft.submission.verify import check_output, rehearse


class Notes:
    """Progress that keeps what is said."""

    def __init__(self):
        self.said = []

    def track(self, items, *_, **__):
        yield from items

    def note(self, message):
        self.said.append(message)


def test_a_good_bundle_passes_and_leaves_its_output(bundle, data, tmp_path):
    progress = Notes()
    found = rehearse(bundle.folder, data / "test.csv", tmp_path / "out.csv", progress)
    studies = pd.read_csv(data / "test.csv")["Path"].str.rpartition("/")[0].nunique()
    assert found.studies == studies == len(pd.read_csv(tmp_path / "out.csv"))
    assert (found.unreadable, found.missing) == (0, ())
    assert any(line.startswith("predict.py: wrote") for line in progress.said)


def test_without_a_csv_it_answers_for_made_radiographs(bundle, tmp_path):
    found = rehearse(bundle.folder, None, tmp_path / "out.csv")
    assert found.studies == len(pd.read_csv(tmp_path / "out.csv")) > 5
    assert found.unreadable == 0


def test_a_rehearsal_in_which_no_image_was_read_does_not_pass(bundle, data, tmp_path):
    shutil.copy(data / "test.csv", tmp_path / "in.csv")
    with pytest.raises(SubmissionError, match=r"exit code 1: error: not one view could be read, .* give --image-root"):
        rehearse(bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert rehearse(bundle.folder, tmp_path / "in.csv", tmp_path / "out.csv", image_root=data).unreadable == 0


def test_the_labels_are_never_overwritten(bundle, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / data.name)
    before = (copy / "test.csv").read_bytes()
    for output in (copy / "test.csv", copy):
        with pytest.raises(SubmissionError, match="the output cannot be written to"):
            rehearse(bundle.folder, copy / "test.csv", output)
    assert (copy / "test.csv").read_bytes() == before


def test_a_csv_that_is_not_there_is_named(bundle, tmp_path):
    with pytest.raises(CxrCftError, match=r"there is no file .*none.csv"):
        rehearse(bundle.folder, tmp_path / "none.csv", tmp_path / "out.csv")


def test_a_script_that_fails_is_reported_with_its_last_line(bundle, data, tmp_path):
    copy = shutil.copytree(bundle.folder, tmp_path / "bundle")
    (copy / "predict.py").write_text("raise SystemExit('the hidden set was too much')")
    with pytest.raises(SubmissionError, match=r"predict.py failed with exit code 1: the hidden set was too much"):
        rehearse(copy, data / "test.csv", tmp_path / "out.csv")


def test_a_script_that_needs_the_network_fails_where_it_can_be_cut(bundle, data, tmp_path):
    copy = shutil.copytree(bundle.folder, tmp_path / "bundle")
    good = rehearse(copy, data / "test.csv", tmp_path / "out.csv")
    if not good.offline:
        pytest.skip("this system does not let a process give up its network")
    script = "import socket\nassert socket.if_nameindex() == [(1, 'lo')], 'there is a network'\nraise SystemExit('cut')"
    (copy / "predict.py").write_text(script)
    with pytest.raises(SubmissionError, match="cut"):
        rehearse(copy, data / "test.csv", tmp_path / "out.csv")


def test_a_folder_that_is_no_bundle_is_refused(tmp_path, data):
    with pytest.raises(SubmissionError, match=r"is no bundle: it has no predict.py"):
        rehearse(tmp_path, data / "test.csv", tmp_path / "out.csv")


@pytest.fixture
def answered(tmp_path):
    """An input of two studies, and a function that writes an output and checks it."""
    asked = tmp_path / "in.csv"
    asked.write_text("Path\nroot/p1/s1/a.jpg\nroot/p1/s1/b.jpg\nroot/p2/s1/a.jpg\n")

    def check(rows, header=("Study", *COMPETITION)):
        output = tmp_path / "out.csv"
        pd.DataFrame(rows, columns=list(header)).to_csv(output, index=False)
        return check_output(output, asked)

    return check


GOOD = [["root/p1/s1", 0.1, 0.2, 0.3, 0.4, 0.5], ["root/p2/s1", 0.5, 0.4, 0.3, 0.2, 0.1]]


def test_an_output_that_answers_every_study_once_is_accepted_in_any_order(answered):
    assert answered(GOOD) == (2, ())
    assert answered(GOOD[::-1]) == (2, ())


def test_categories_that_the_competition_wants_and_the_output_has_not_are_named(answered):
    without = [[row[0], *row[2:]] for row in GOOD]
    assert answered(without, ("Study", *COMPETITION[1:])) == (2, ("Atelectasis",))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD[:1], "lacks 1 studies: root/p2/s1"),
        ([*GOOD, ["root/p3/s1", 0, 0, 0, 0, 0]], "adds 1 studies: root/p3/s1"),
        ([*GOOD, GOOD[0]], "more than once: root/p1/s1"),
        ([["./root/p1/s1", *GOOD[0][1:]], GOOD[1]], "lacks 1 studies: root/p1/s1"),
        ([["root/p1/s1/", *GOOD[0][1:]], GOOD[1]], "lacks 1 studies: root/p1/s1"),
        ([[*GOOD[0][:3], None, *GOOD[0][4:]], GOOD[1]], "line 2, Consolidation: '' is no finite number"),
    ],
)
def test_what_the_evaluator_rejects_is_named(answered, rows, message):
    with pytest.raises(CxrCftError, match=message):
        answered(rows)


def test_another_header_is_refused(answered):
    header = ("Study", *sorted(COMPETITION, reverse=True))
    with pytest.raises(SubmissionError, match="the header is Study,Pleural Effusion"):
        answered(GOOD, header)
