"""Members of joined folds as what there is to pack of them: each fold's run, with its part of the weight."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr_cft.artifacts import Run, fingerprint, open_run
from cxr_cft.data.predictions import read_predictions, read_rows
from cxr_cft.data.splits import FOLD
from cxr_cft.ensemble.file import Candidate, Ensemble, MemberEntry
from cxr_cft.ensemble.members import folds_of, run_fingerprint, run_name, unique_names
from cxr_cft.errors import RunError, SubmissionError

AGAIN = "run `cxr-cft ensemble` again"
TRAIN = f"train it again, then {AGAIN}"


@dataclass(frozen=True)
class _Part:
    """An entry of the ensemble that is made, the place of the one that it stands for, and its share of the weight."""

    entry: MemberEntry
    of: int
    share: float = 1.0

    @property
    def is_fold(self) -> bool:
        return self.share < 1


def with_fold_runs(ensemble: Ensemble, names: Collection[str], near: Path | None = None) -> Ensemble:
    """The ensemble with its folds members called `names` replaced by their runs, which it was joined from.

    Each of K runs has the member's scales and, for every category, the K-th part of its weight: together they count as
    the mean of their scores on the common scale. What the search knows of the member's worth is of no single run, and
    left out. A run that is a member by itself already stays that, beside an entry NAME-2. Runs are looked for beside
    the CSV, or beside the one of its name in the folder `near` where it has moved.

    Raises SubmissionError if the CSV is gone or not the one of the search, a run is gone, incomplete or damaged, has no
    tuned heads where those took part, or predicts its fold otherwise than the CSV has it.
    """
    parts: list[_Part] = []
    for place, member in enumerate(ensemble.members):
        if member.kind == "folds" and member.name in names:
            runs = _runs(member, near)
            parts += [_Part(_entry(member, run), place, 1 / len(runs)) for run in runs]
        else:
            parts.append(_Part(member, place))
    if not any(part.is_fold for part in parts):
        return ensemble
    parts = _named(parts)
    content = {
        "members": tuple(part.entry for part in parts),
        "copies": (),
        "correlations": tuple(tuple(_correlation(ensemble, one, other) for other in parts) for one in parts),
        "candidates": {name: _weighed(ensemble, each, parts) for name, each in ensemble.candidates.items()},
    }
    return Ensemble.model_validate({**dict(ensemble), **content})


def _runs(member: MemberEntry, near: Path | None) -> list[Run]:
    """The runs of a member of joined folds, as they were when their predictions took part in the search."""
    csv = _csv(member, near)
    named = folds_of(csv)
    if named is None:
        raise SubmissionError(f"{csv} is not named as joined folds are, BASE-Kfolds.csv; give it its name, and {AGAIN}")
    if fingerprint(csv) != member.fingerprint:
        raise SubmissionError(f"{csv} has changed since the ensemble; {AGAIN}")
    runs = [_open(member, folder) for folder in named[0]]
    _check_joined(csv, runs, member)
    return runs


def _check_joined(csv: Path, runs: Sequence[Run], member: MemberEntry) -> None:
    """Raise SubmissionError unless the CSV holds the runs' own predictions of their folds, to the last digit."""
    categories = list(next(iter(member.scales.values())))
    joined = read_predictions(csv, categories)
    predicted = 0
    for run in runs:
        own = run.predictions(FOLD, tuned=member.tuned)
        if not own.is_file():
            raise SubmissionError(f"run {run.name} of {member.name} has no predictions of its fold ({own}); {TRAIN}")
        found = read_rows(own, categories, partial=True).joined()
        known = set(found.studies) <= set(joined.studies)
        if not known or not np.array_equal(joined.rows(found.studies), found.scores):
            raise SubmissionError(
                f"run {run.name} does not predict its fold as {csv} has it; "
                f"once all folds are trained and tuned alike, {AGAIN}"
            )
        predicted += len(found.studies)
    if predicted != len(joined.studies):
        raise SubmissionError(f"{csv} has {len(joined.studies)} studies, its runs predict {predicted}; {AGAIN}")


def _csv(member: MemberEntry, near: Path | None) -> Path:
    source = Path(member.source)
    moved = near / source.name if near else source
    csv = moved if moved.is_file() else source
    if not csv.is_file():
        raise SubmissionError(
            f"{csv} is gone; put it, and the runs that it joins, into the folder of the ensemble file, or {AGAIN}"
        )
    return csv


def _open(member: MemberEntry, folder: Path) -> Run:
    if not folder.is_dir():
        raise SubmissionError(f"{member.name} is packed as its runs, and {folder} is gone; {TRAIN}")
    try:
        run = open_run(folder)
        tuned = run.tuned() is not None if member.tuned else True
    except RunError as error:
        raise SubmissionError(f"{member.name} is packed as its runs: {error}") from error
    if not tuned:
        raise SubmissionError(
            f"run {run.name} of {member.name} has no heads tuned for its weights; run `cxr-cft cft {folder}`, then "
            f"{AGAIN}"
        )
    return run


def _entry(member: MemberEntry, run: Run) -> MemberEntry:
    unknown = {"alone": None, "counted": None, "correlation": None, "gain": None}
    return member.model_copy(
        update={
            "name": run_name(run.path, member.tuned),
            "kind": "run",
            "source": str(run.path),
            "fingerprint": run_fingerprint(run, tuned=member.tuned),
            **unknown,
        }
    )


def _named(parts: list[_Part]) -> list[_Part]:
    """The parts, each under a name of its own; members that were there before keep theirs."""
    order = sorted(range(len(parts)), key=lambda place: parts[place].is_fold)
    names = dict(zip(order, unique_names([parts[place].entry.name for place in order]), strict=True))
    return [
        _Part(part.entry.model_copy(update={"name": names[place]}), part.of, part.share)
        for place, part in enumerate(parts)
    ]


def _weighed(ensemble: Ensemble, candidate: Candidate, parts: list[_Part]) -> Candidate:
    weights = {
        part.entry.name: {
            category: weight * part.share
            for category, weight in candidate.weights[ensemble.members[part.of].name].items()
        }
        for part in parts
    }
    return candidate.model_copy(update={"weights": weights})


def _correlation(ensemble: Ensemble, one: _Part, other: _Part) -> float | None:
    """What the search found between two members; of single runs of folds it knows none."""
    return None if one.is_fold or other.is_fold else ensemble.correlations[one.of][other.of]
