"""What a rehearsal found, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

TEST_STUDIES, TEST_VIEWS = 500, 668  # of CheXpert's hidden test set (Irvin et al. 2019; the organisers' description)


@dataclass
class Rehearsal:
    """What a rehearsal found of an input.

    The output CSV, its studies and views, seconds, unreadable views, studies by the prior, the competition's categories
    that it lacks, the input's name, how far it is from the package's own predictions (None where there are none), what
    that may be, and all findings that did not stop it.
    """

    output: Path
    studies: int
    views: int
    seconds: float
    unreadable: int
    unseen: int
    missing: tuple[str, ...]
    name: str
    difference: float | None = None
    allowed: float | None = None
    findings: list[str] = field(default_factory=list)

    def told(self) -> str:
        """The rehearsal in one line."""
        line = (
            f"{self.name}: {self.studies} studies, {self.views} views ({self.unreadable} unreadable, {self.unseen} "
            f"studies by the prior) in {self.seconds:.1f} s, twice the same"
        )
        if self.difference is None:
            return line
        allowed = "told only" if self.allowed is None else f"{self.allowed:.1e} allowed"
        return f"{line}; at most {self.difference:.1e} from what the package predicts ({allowed})"


@dataclass(frozen=True)
class Pace:
    """How fast a bundle is on this machine: seconds to start, views in full resolution a second, and cores used."""

    start: float
    rate: float
    cores: int

    @property
    def test_set(self) -> float:
        """Seconds for as many views as CheXpert's hidden test set has."""
        return self.start + TEST_VIEWS / self.rate


@dataclass(frozen=True)
class Verdict:
    """A bundle that passed: on the made hidden set, on the user's CSV (None without one), how, and how fast."""

    made: Rehearsal
    given: Rehearsal | None
    pace: Pace
    isolation: str

    def told(self) -> list[str]:
        """The verdict as lines to show: PASS or what the competition would not take, the evidence, the findings."""
        rehearsals = [each for each in (self.made, self.given) if each is not None]
        missing = self.made.missing
        head = f"complete, but the CheXpert competition would reject it for want of {', '.join(missing)}"
        lines = [head if missing else "PASS", *(f"  {each.told()}" for each in rehearsals), f"  {self.isolation}"]
        pace, time = self.pace, timedelta(seconds=round(self.pace.test_set))
        lines.append(
            f"  the hidden test set ({TEST_STUDIES} studies, {TEST_VIEWS} views) would take {time} here: "
            f"{pace.start:.1f} s to start, {pace.rate:.1f} views in full resolution a second on {pace.cores} cores"
        )
        findings = dict.fromkeys(finding for each in rehearsals for finding in each.findings)
        return [*lines, *(f"! {finding}" for finding in findings)]
