"""An output is held against the competition's rules, and asked for all of its digits."""

import numpy as np
import pandas as pd
import pytest

from cxr_cft.data.labels import COMPETITION
from cxr_cft.errors import SubmissionError
from cxr_cft.submission.rehearsal.rules import check_answer, check_digits, check_output, read_scores

GOOD = [["root/p1/s1", 0.1, 0.2, 0.3, 0.4, 0.5], ["root/p2/s1", 0.5, 0.4, 0.3, 0.2, 0.1]]


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
        ([[*GOOD[0][:3], "nan", *GOOD[0][4:]], GOOD[1]], "line 2, Consolidation: 'nan' is no finite number"),
    ],
)
def test_what_the_evaluator_rejects_is_named(answered, rows, message):
    with pytest.raises(SubmissionError, match=message):
        answered(rows)


def test_another_header_is_refused(answered):
    header = ("Study", *sorted(COMPETITION, reverse=True))
    with pytest.raises(SubmissionError, match="the header is Study,Pleural Effusion"):
        answered(GOOD, header)


def test_messages_call_the_output_by_the_name_that_a_user_knows(tmp_path):
    output = tmp_path / "out.csv"
    pd.DataFrame(GOOD, columns=["Study", *COMPETITION]).replace(0.5, np.nan).to_csv(output, index=False)
    with pytest.raises(SubmissionError, match=r"^the answer, line 3, Atelectasis: '' is no finite number"):
        check_answer(output, ["root/p1/s1", "root/p2/s1"], "the answer")


def written(path, scores, form):
    rows = [f"root/p{row}/s,{form(score)}\n" for row, score in enumerate(scores)]
    path.write_text("Study,Edema\n" + "".join(rows))
    return path


SCORES = np.random.default_rng(0).random(200).tolist()


@pytest.mark.parametrize("form", [repr, "{:.9g}".format, "{:.9e}".format, "{:.12f}".format])
def test_nine_digits_are_enough_however_they_are_written(tmp_path, form):
    check_digits(written(tmp_path / "out.csv", SCORES, form), {"Edema": 0.25}, "it")


@pytest.mark.parametrize("form", ["{:.8g}".format, "{:.3f}".format, "{:.6e}".format, lambda x: repr(round(x, 4))])
def test_rounded_scores_are_refused(tmp_path, form):
    with pytest.raises(SubmissionError, match=r"^it: Edema is written with \d significant digits, not 9 or more"):
        check_digits(written(tmp_path / "out.csv", SCORES, form), {"Edema": 0.25}, "it")


def test_small_scores_have_their_digits_after_the_zeros(tmp_path):
    with pytest.raises(SubmissionError, match="with 3 significant digits"):
        check_digits(written(tmp_path / "out.csv", [0.000000123] * 3, "{:.9f}".format), {"Edema": 0.25}, "it")


def test_the_prior_zero_and_one_may_be_short(tmp_path):
    check_digits(written(tmp_path / "out.csv", [0.25] * 5 + [0.0, 1.0, 0.123456789], repr), {"Edema": 0.25}, "it")


def test_scores_are_read_in_the_order_that_is_asked_for(tmp_path):
    output = tmp_path / "out.csv"
    pd.DataFrame(GOOD, columns=["Study", *COMPETITION]).to_csv(output, index=False)
    found = read_scores(output, ["root/p2/s1", "root/p1/s1"], ["Edema", "Atelectasis"])
    np.testing.assert_array_equal(found, [[0.2, 0.5], [0.4, 0.1]])
