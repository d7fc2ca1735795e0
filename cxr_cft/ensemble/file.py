"""The ensemble file: which members, on which scale, with which weights, and what the search knows of their worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cxr_cft.artifacts import read_json, write_json
from cxr_cft.ensemble.blend import blend_scores
from cxr_cft.errors import PredictionsError

Floats = NDArray[np.float64]

OPTIMISM = (
    "The backbones' epochs and the tuned heads were chosen on the same validation studies, so that even the out-of-fold"
    " numbers are optimistic for unseen patients; only studies that chose nothing can tell."
)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Scale(_Entry):
    """How one member's scores of one category come to the common scale."""

    probability: bool
    center: float
    spread: float = Field(gt=0)


class MemberEntry(_Entry):
    """One member: a run (by its folder) or a CSV, its fingerprint, its weight, its scale per category."""

    name: str
    kind: Literal["run", "csv"]
    source: str
    tuned: bool
    fingerprint: str
    weight: float = Field(ge=0)
    scale: dict[str, Scale]


class Estimate(_Entry):
    """What one candidate is worth: the mean AUROC it was fitted to, and the one on studies that it had not seen."""

    weights: dict[str, float]
    fitted: float
    out_of_fold: float
    interval: tuple[float, float] | None = Field(None, description="95 % of out_of_fold; None where positives are few")


class Ensemble(_Entry):
    """The content of an ensemble file."""

    version: str
    seed: int
    categories: tuple[str, ...]
    scored: tuple[str, ...]
    studies: int
    positives: dict[str, int] = Field(default_factory=dict, description="positive studies of each scored category")
    members: tuple[MemberEntry, ...]
    chosen: Literal["equal", "ga"]
    equal: Estimate
    ga: Estimate
    difference: float = Field(description="out-of-fold mean AUROC of the genetic algorithm minus that of equal weights")
    interval: tuple[float, float] | None = Field(description="95 % of the difference; None where positives are too few")
    prior: dict[str, float] = Field(description="mean blended probability; for a study that no member can see")

    @model_validator(mode="after")
    def _complete(self) -> Ensemble:
        names = {member.name for member in self.members}
        if not names or len(names) < len(self.members):
            raise ValueError("there must be members, each with a name of its own")
        if not any(member.weight > 0 for member in self.members):
            raise ValueError("no member has a weight above 0")
        if not names == set(self.equal.weights) == set(self.ga.weights):
            raise ValueError("equal and ga do not weigh exactly the members")
        for member in self.members:
            if set(member.scale) != set(self.categories):
                raise ValueError(f"member {member.name} has not a scale for each category")
        return self

    def using(self, which: Literal["chosen", "equal", "ga"]) -> Ensemble:
        """The same members under another of the file's weights."""
        if which == "chosen":
            return self
        weights = (self.equal if which == "equal" else self.ga).weights
        members = tuple(member.model_copy(update={"weight": weights[member.name]}) for member in self.members)
        return self.model_copy(update={"members": members, "chosen": which})

    def scales(self) -> tuple[NDArray[np.bool_], Floats, Floats]:
        """probability, center and spread (M, C) of all members."""
        rows = [[member.scale[category] for category in self.categories] for member in self.members]
        return (
            np.array([[scale.probability for scale in row] for row in rows]),
            np.array([[scale.center for scale in row] for row in rows]),
            np.array([[scale.spread for scale in row] for row in rows]),
        )

    def blend(self, scores: Floats) -> Floats:
        """The probabilities (S, C) of members' scores (M, S, C), members and categories in this file's order."""
        return blend_scores(scores, np.array([member.weight for member in self.members]), *self.scales())


def write_ensemble(path: Path, ensemble: Ensemble) -> None:
    """Write the file, atomically."""
    write_json(path, ensemble.model_dump(mode="json"))


def read_ensemble(path: Path) -> Ensemble:
    """Read and check an ensemble file. Raises PredictionsError if it is none."""
    content: Mapping[str, Any] = read_json(path)
    try:
        return Ensemble.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = "".join(f"{part}." for part in fault["loc"])[:-1]
        raise PredictionsError(f"{path} is no ensemble file: {where + ': ' if where else ''}{fault['msg']}") from error
