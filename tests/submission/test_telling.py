"""What predict.py says, and how it counts, on a terminal and in a file."""

import io
import sys

import pytest

from cxr_cft.submission import telling
from cxr_cft.submission.telling import EVERY, Counter, tell


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [100.0]
    monkeypatch.setattr(telling.time, "monotonic", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def test_on_a_terminal_one_line_counts_and_says_what_is_left(clock, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    counter = Counter(40)
    clock(5)
    counter.tell(10)
    clock(15)
    counter.tell(40)
    assert stream.getvalue() == (
        "\r10 of 40 views, 2.0 a second, 15 s left\033[K\r40 of 40 views, 2.0 a second, 0 s left\033[K\n"
    )


def test_elsewhere_there_is_a_line_a_minute(clock, capsys):
    assert EVERY == 60
    counter = Counter(1000)
    for done in range(10, 310, 10):  # 10 views each 5 seconds: 150 seconds
        clock(5)
        counter.tell(done)
    assert capsys.readouterr().err.splitlines() == [
        "130 of 1000 views, 2.0 a second, 435 s left",
        "260 of 1000 views, 2.0 a second, 370 s left",
    ]


def test_a_line_on_a_terminal_takes_the_place_of_the_count(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    tell("left out a.jpg")
    assert stream.getvalue() == "\rleft out a.jpg\033[K\n"


def test_what_cannot_be_printed_is_escaped_and_nobody_listening_is_no_matter(monkeypatch, capsys):
    tell("left out r\x1b[2J/\udcfc/Müller\n: gone")
    assert capsys.readouterr().err == "left out r\\x1b[2J/\\udcfc/Müller\\n: gone\n"
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        tell("a line")
        Counter(1).tell(1)
