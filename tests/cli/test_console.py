"""Progress reads well in a file: lines now and then, each with a count, a rate and the time that remains."""

import io
import re

import pytest
from rich.console import Console

from cxr_cft.cli import console
from cxr_cft.cli.console import TerminalProgress


class Clock:
    """Time that passes when it is looked at."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def monotonic(self):
        self.now += self.step
        return self.now


@pytest.fixture
def progress():
    made = TerminalProgress()
    made.console = Console(file=io.StringIO(), width=100)
    return made


def test_long_work_writes_lines_with_rate_and_remaining_time(progress, monkeypatch):
    monkeypatch.setattr(console, "time", Clock(step=4.0))
    assert list(progress.track(range(10), "epoch 1/3", 10, "batches")) == list(range(10))
    lines = progress.console.file.getvalue().splitlines()
    assert lines[0] == "epoch 1/3: 4/10 batches, 0.2/s, 0:00:24 left"
    assert re.fullmatch(r"epoch 1/3: 10/10 batches, 0.2/s, in 0:00:40", lines[-1])
    assert len(lines) == 3


def test_short_work_writes_nothing_and_notes_stay_on_one_line(progress):
    list(progress.track(range(3), "quick", 3))
    progress.note("x" * 300 + " [not markup]")
    assert progress.console.file.getvalue() == "x" * 300 + " [not markup]\n"


def test_a_bar_on_a_terminal_is_gone_when_the_work_ends_well_or_not():
    progress = TerminalProgress()
    progress.console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with pytest.raises(ZeroDivisionError):
        [1 // (1 - item) for item in progress.track(range(3), "work", 3)]
    assert list(progress.track(range(2), "again", 2)) == [0, 1]
    assert progress._bars is None
