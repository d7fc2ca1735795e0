"""The ensemble file: which members, on which scale, with which weights, and what the search knows of their worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cxr_cft.artifacts import read_json, write_json
from cxr_cft.data.studies import AGGREGATIONS
from cxr_cft.ensemble.blend import blend_scores
from cxr_cft.errors import PredictionsError

Floats = NDArray[np.float64]
Interval = tuple[float, float]

CANDIDATES = {
    "equal": "equal weights",
    "ga": "genetic algorithm",
    "ga-category": "genetic algorithm, per category",
    "greedy": "greedy selection",
    "best": "best single",
    "platt": "by Platt calibration",
    "isotonic": "by isotonic calibration",
}
"""The candidates of every search, and what they are called on a page."""

OPTIMISM = (
    "The backbones' epochs and the tuned heads were chosen on the same validation studies, so that even the out-of-fold"
    " numbers are optimistic for unseen patients; only studies that chose nothing can tell."
)
FOREIGN = (
    "Fitted numbers are of the studies that the weights were searched on. Out-of-fold ones hold for unseen patients as"
    " far as these studies chose nothing about the members themselves."
)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Line(_Entry):
    """A scale: x · slope + intercept, x the score or its logit, which begins at `edge` (`blend.scale_logit`)."""

    logit: bool
    edge: float = Field(0.0, ge=0, lt=0.5)
    slope: float = Field(ge=0)
    intercept: float
    low: float | None = Field(None, description="below which it bends; not below any where there is none")
    high: float | None = None


class Curve(_Entry):
    """A scale of straight parts between knots that rise, with flat tails beyond them."""

    logit: bool
    x: tuple[float, ...]
    y: tuple[float, ...]

    @model_validator(mode="after")
    def _rises(self) -> Curve:
        if (
            len(self.x) != len(self.y)
            or len(self.x) < 2
            or not all((np.diff(part) > 0).all() for part in (self.x, self.y))
        ):
            raise ValueError("the knots of a curve must rise, two or more")
        return self


class Output(_Entry):
    """How a category's blend becomes a logit: blend · slope + intercept."""

    slope: float = Field(gt=0)
    intercept: float


class MemberEntry(_Entry):
    """One member: a run (by its folder) or a CSV, its fingerprint, its scales, and what it is worth."""

    name: str
    kind: Literal["run", "folds", "csv"]
    source: str
    tuned: bool
    fingerprint: str
    by_view: bool = Field(description="whether the search saw its views, and joined them by the file's aggregation")
    scales: dict[str, dict[str, Line | Curve]] = Field(description="by kind, for each category that it predicts")
    alone: float | None = Field(description="fitted mean AUROC of the member by itself")
    counted: float | None = Field(description="share of the resamples in which the GA gave it half an equal share")
    correlation: float | None = Field(description="mean correlation with the other members, over categories")
    gain: float | None = Field(description="out-of-fold gain of the recommended candidate's blend by having it")


class Estimate(_Entry):
    """What a candidate is worth on studies that it has not seen, and how much more than equal weights; 95 %."""

    out_of_fold: float | None
    interval: Interval | None = Field(None, description="None where positives are too few for one")
    difference: float | None
    difference_interval: Interval | None = None


class Candidate(Estimate):
    """Weights by member and category, and their worth."""

    scale: str = Field(description="of the members' scales, the kind that it averages")
    weights: dict[str, dict[str, float]]
    shrinkage: float = Field(ge=0, le=1, description="share of equal weights that was mixed in")
    fitted: float = Field(description="mean AUROC on the studies that the weights were searched on")
    output: dict[str, Output]
    prior: dict[str, float] = Field(description="mean blended probability; for a study that no member can see")


class ScaleEstimate(_Entry):
    """What equal weights are worth out of fold with another scale or another way to join views."""

    aggregation: str
    scale: str
    out_of_fold: float | None
    difference: float | None = Field(description="from the first")
    error: float | None = Field(description="standard error of the difference")


class Searched(_Entry):
    """The label CSV that weights were searched on, as an absolute path, and its sha256."""

    source: str
    fingerprint: str


class Ensemble(_Entry):
    """The content of an ensemble file."""

    version: str
    seed: int
    labels: Searched | None = Field(None, description="None in the file of a version that did not say")
    settings: dict[str, float | list[float] | list[str]]
    categories: tuple[str, ...]
    scored: tuple[str, ...]
    telling: tuple[str, ...] = Field(description="those that had enough cases for a say in choices; none if too few")
    studies: int
    patients: int
    positives: dict[str, int] = Field(description="positive studies of each scored category")
    optimistic: bool = Field(description="whether the members' heads were chosen on the same studies")
    aggregation: str
    scales: tuple[ScaleEstimate, ...] = Field(description="equal weights on each; empty where there was no choice")
    members: tuple[MemberEntry, ...]
    copies: tuple[tuple[str, ...], ...] = Field(description="members whose scores are the same to the last digit")
    correlations: tuple[tuple[float | None, ...], ...] = Field(description="of members, mean over categories")
    candidates: dict[str, Candidate]
    recommended: str
    procedure: Estimate = Field(description="of choosing as the recommendation was chosen, within every fold")
    chosen: str = Field(description="the candidate in use: the recommended one, unless another was asked for")

    @model_validator(mode="after")
    def _complete(self) -> Ensemble:
        names = {member.name for member in self.members}
        if not names or len(names) < len(self.members):
            raise ValueError("there must be members, each with a name of its own")
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(f"views cannot be joined by {self.aggregation}")
        for name in (self.chosen, self.recommended):
            if name not in self.candidates:
                raise ValueError(f"there is no candidate {name}")
        for name, candidate in self.candidates.items():
            if set(candidate.weights) != names:
                raise ValueError(f"candidate {name} does not weigh exactly the members")
            if not set(candidate.output) == set(candidate.prior) == set(self.categories):
                raise ValueError(f"candidate {name} has not an output and a prior for each category")
            for category in self.categories:
                self._check_weights(name, category, candidate)
        return self

    def _check_weights(self, name: str, category: str, candidate: Candidate) -> None:
        total = 0.0
        for member in self.members:
            weight = candidate.weights[member.name].get(category, 0.0)
            if weight < 0 or (weight > 0 and category not in member.scales.get(candidate.scale, {})):
                raise ValueError(f"candidate {name} gives {member.name} the weight {weight:g} for {category}")
            total += weight
        if total <= 0:
            raise ValueError(f"candidate {name} gives no member a weight for {category}")

    @property
    def candidate(self) -> Candidate:
        """The candidate in use."""
        return self.candidates[self.chosen]

    @property
    def verdict(self) -> str:
        """One line: what is recommended, and by which rule."""
        if len(self.members) == 1:
            return f"one member only, {self.members[0].name}: there is nothing to weigh"
        if not self.telling:
            return (
                f"recommended: equal weights; there is too little to choose by ({self.settings['fewest_patients']:.0f}"
                f" patients, and {self.settings['fewest_cases']:.0f} with and without a finding)"
            )
        rule = (
            "in the order of the table, a candidate replaces the choice so far if it is better out of fold by"
            f" {self.settings['standard_errors']} standard errors of the difference,"
            f" {self.settings['standard_errors_unshrunk']} if it is not shrunk"
        )
        if self.telling != self.scored:
            rule += f"; over {', '.join(self.telling)}, as others have too few cases"
        if self.recommended == "equal":
            return f"recommended: equal weights; no candidate is better by enough ({rule})"
        return (
            f"recommended: {CANDIDATES[self.recommended]} ({rule}); its numbers had a part in choosing it, so expect"
            " those of the last row"
        )

    @property
    def caveat(self) -> str:
        """What the estimates cannot say."""
        return OPTIMISM if self.optimistic else FOREIGN

    def using(self, which: str) -> Ensemble:
        """The same members under another candidate's weights; `chosen` leaves the file's own."""
        return self if which == "chosen" else self.model_copy(update={"chosen": which})

    def weights(self, which: str = "") -> Floats:
        """The weights (M, C) of a candidate, by default of the one in use."""
        candidate = self.candidates[which or self.chosen]
        return np.array(
            [[candidate.weights[member.name].get(name, 0.0) for name in self.categories] for member in self.members]
        )

    def blend(self, scores: Floats) -> Floats:
        """The probabilities (S, C) of members' scores (M, S, C), members and categories in this file's order."""
        scales = [
            [scale.model_dump() if (scale := scales.get(name)) else None for name in self.categories]
            for scales in (member.scales[self.candidate.scale] for member in self.members)
        ]
        output = [self.candidate.output[name] for name in self.categories]
        slope, intercept = (np.array([getattr(each, key) for each in output]) for key in ("slope", "intercept"))
        return blend_scores(scores, self.weights(), scales, slope, intercept)


def write_ensemble(path: Path, ensemble: Ensemble) -> None:
    """Write the file, atomically."""
    write_json(path, ensemble.model_dump(mode="json"))


def read_ensemble(path: Path) -> Ensemble:
    """Read and check an ensemble file. Raises PredictionsError if it is none, or of an older version's form."""
    if not path.exists():
        raise PredictionsError(f"there is no ensemble file {path}; make one by `cxr-cft ensemble`")
    content: Mapping[str, Any] = read_json(path)
    try:
        return Ensemble.model_validate(content)
    except ValidationError as error:
        if "members" in content and "candidates" not in content:
            raise PredictionsError(
                f"{path} was written by an older version; search again with `cxr-cft ensemble`"
            ) from error
        faults = error.errors(include_url=False)
        # A scale is a line or a curve, and what is wrong with one is no more than the lack of the other.
        fault = next((each for each in faults if each["type"] not in ("missing", "extra_forbidden")), faults[0])
        where = "".join(f"{part}." for part in fault["loc"])[:-1]
        raise PredictionsError(
            f"{path} is no ensemble file: {where + ': ' if where else ''}{fault['msg']}; search again with"
            " `cxr-cft ensemble`"
        ) from error
