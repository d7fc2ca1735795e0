"""Who takes part in an ensemble: runs, by their validation predictions, and any prediction CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxr_cft.artifacts import Run, fingerprint
from cxr_cft.data.predictions import Predictions, read_predictions
from cxr_cft.errors import PredictionsError, RunError, first_few


@dataclass(frozen=True, eq=False)
class Member:
    """One column of the ensemble. `fingerprint` is of the run's weights and heads, or of the CSV."""

    name: str
    kind: Literal["run", "csv"]
    source: Path
    tuned: bool
    fingerprint: str
    predictions: Predictions


def run_fingerprint(run: Run, *, tuned: bool) -> str:
    """The sha256 that stands for a run's model: of its weights and, where CFT tuned them, its heads."""
    return fingerprint(run.model_file, run.heads_file) if tuned else fingerprint(run.model_file)


def gather(runs: Sequence[Run], csvs: Sequence[Path], categories: Sequence[str], split: str = "valid") -> list[Member]:
    """Runs (with the heads that CFT tuned, where it has) and CSVs as members with their predictions of a split.

    Raises RunError for a run that lacks a category or its predictions, and PredictionsError for a CSV that cannot be
    used or a name that two members share.
    """
    members = []
    for run in runs:
        lacking = [category for category in categories if category not in run.categories]
        if lacking:
            raise RunError(f"run {run.name} does not predict {first_few(lacking)}; leave it out of this ensemble")
        tuned = run.tuned() is not None
        path = run.predictions(split, tuned=tuned)
        if not path.exists():
            raise RunError(f"run {run.name} has no predictions of {split} ({path}); its data folder has no {split}.csv")
        found = read_predictions(path, categories)
        members.append(Member(run.name, "run", run.path, tuned, run_fingerprint(run, tuned=tuned), found))
    for csv in csvs:
        found = read_predictions(csv, categories)
        members.append(Member(csv.stem, "csv", csv, False, fingerprint(csv), found))
    doubled = [name for name, count in Counter(member.name for member in members).items() if count > 1]
    if doubled:
        raise PredictionsError(
            f"two members have the name {first_few(doubled)}; a run's folder and a CSV's stem name them"
        )
    return members
