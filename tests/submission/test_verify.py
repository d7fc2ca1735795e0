"""A rehearsal runs the bundle as a server would and holds its output against the competition's rules."""

import shutil

import pandas as pd
import pytest

from cxr_cft.data.labels import COMPETITION
from cxr_cft.errors import CxrCftError, SubmissionError
from cxr_cft.submission.verify import check_output, rehearse


def test_a_good_bundle_passes_and_leaves_its_output(bundle, data, tmp_path):
    found = rehearse(bundle.folder, data / "test.csv", tmp_path / "out.csv")
    studies = pd.read_csv(data / "test.csv")["Path"].str.rpartition("/")[0].nunique()
    assert found.studies == studies == len(pd.read_csv(tmp_path / "out.csv"))
    assert "0 of" in found.told


def test_without_a_csv_it_answers_for_made_radiographs(bundle, tmp_path):
    found = rehearse(bundle.folder, None, tmp_path / "out.csv")
    assert found.studies == len(pd.read_csv(tmp_path / "out.csv")) > 5
    assert "0 of" in found.told


def test_a_csv_that_is_not_there_is_named(bundle, tmp_path):
    with pytest.raises(SubmissionError, match=r"there is no file .*none.csv"):
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
    assert answered(GOOD) == 2
    assert answered(GOOD[::-1]) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD[:1], "lacks 1 studies: root/p2/s1"),
        ([*GOOD, ["root/p3/s1", 0, 0, 0, 0, 0]], "adds 1 studies: root/p3/s1"),
        ([*GOOD, GOOD[0]], "more than once: root/p1/s1"),
        ([["./root/p1/s1", *GOOD[0][1:]], GOOD[1]], "lacks 1 studies: root/p1/s1"),
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
