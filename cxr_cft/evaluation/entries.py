"""What is scored: prediction CSVs read against one label CSV, each by a name of its own and with every study once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr_cft.data.labels import CATEGORIES, COMPETITION
from cxr_cft.data.predictions import read_predictions, read_rows
from cxr_cft.data.table import read_frame
from cxr_cft.data.truth import StudyLabels, read_labels
from cxr_cft.ensemble.members import name_of
from cxr_cft.errors import CxrCftError, DataError, PredictionsError, did_you_mean, first_few

Choice = Sequence[str] | Literal["all"]
"""Categories by name, or all of CheXpert's that labels and predictions have."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Scores (M, S, C) of M prediction CSVs, for the studies and categories of the labels.

    A category that a file has no column for is nan throughout. `notes` say, a line each, what is not scored, and why.
    """

    names: tuple[str, ...]
    scores: NDArray[np.float64]
    truth: StudyLabels
    notes: tuple[str, ...]


def read_entries(predictions: Sequence[Path], labels: Path | StudyLabels, categories: Choice = COMPETITION) -> Entries:
    """Read prediction CSVs for exactly the studies of a label CSV, as the competition's evaluator does.

    Categories that are named must be in every file. Raises PredictionsError if a study is missing, added or doubled, a
    category or a number is missing, or a file is given twice; DataError for labels that cannot be read, or that are not
    the last file.
    """
    again = next((path for n, path in enumerate(predictions) if path.resolve() in _resolved(predictions[:n])), None)
    if again:
        raise PredictionsError(f"{again} is given twice; name each file of predictions once")
    truth, notes = (labels, []) if isinstance(labels, StudyLabels) else _read_truth(predictions, labels, categories)
    every = categories == "all"
    scores = np.stack([_read(path, truth, partial=every) for path in predictions])
    names = distinct_names(predictions)
    if every:
        truth, scores, lacking = _without_empty(names, truth, scores)
        notes += lacking
    return Entries(names, scores, truth, tuple(notes))


def distinct_names(files: Sequence[Path]) -> tuple[str, ...]:
    """What each CSV is called: by its run, or its stem; where two would be alike, by as much path as tells them apart.

    So `a/test.csv` and `b/test.csv` are `a/test` and `b/test`.
    """
    names = [name_of(file) for file in files]
    counts = Counter(names)
    ends = [file.resolve().with_suffix("").parts for file in files]

    def apart(own: tuple[str, ...]) -> str:
        lengths = range(1, len(own))
        length = next((n for n in lengths if sum(end[-n:] == own[-n:] for end in ends) == 1), len(own))
        return "/".join(own[-length:])

    return tuple(apart(end) if counts[name] > 1 else name for name, end in zip(names, ends, strict=True))


def _resolved(paths: Iterable[Path]) -> set[Path]:
    return {path.resolve() for path in paths}


def _read(path: Path, truth: StudyLabels, *, partial: bool) -> NDArray[np.float64]:
    """The scores (S, C) of the labels' studies, in their order."""
    if partial:
        found = read_rows(path, truth.categories, partial=True).joined()
    else:
        found = read_predictions(path, truth.categories)
    scores = found.rows(truth.studies)
    added = set(found.studies) - set(truth.studies)
    if added:
        raise PredictionsError(f"{path} has {len(added)} studies that {truth.source} lacks: {first_few(sorted(added))}")
    return scores


def _without_empty(
    names: Sequence[str], truth: StudyLabels, scores: NDArray[np.float64]
) -> tuple[StudyLabels, NDArray[np.float64], list[str]]:
    """Labels and scores of the categories that some file has, and lines on what files lack."""
    there: NDArray[np.bool_] = np.logical_not(np.isnan(scores).any(axis=1))  # (M, C)
    some, shared = (np.asarray(of(there, axis=0), dtype=bool) for of in (np.any, np.all))
    notes = []

    def named(chosen: NDArray[np.bool_]) -> list[str]:
        return [truth.categories[c] for c in np.flatnonzero(chosen)]

    if not some.all():
        notes.append(f"not scored, without a column in the predictions: {', '.join(named(~some))}")
    for name, has in zip(names, there, strict=True):
        if not has[some].all():
            notes.append(f"{name} has no mean, because it has no column {', '.join(named(some & ~has))}")
    if shared.any() and not shared[some].all():
        notes.append(f"--categories '{','.join(named(shared))}' compares what all files have")
    kept = replace(truth, categories=tuple(named(some)), labels=truth.labels[:, some])
    return kept, scores[:, :, some], notes


def _read_truth(predictions: Sequence[Path], labels: Path, categories: Choice) -> tuple[StudyLabels, list[str]]:
    """The labels of the categories that are asked for, and a line on those of "all" that they lack."""
    wanted = CATEGORIES if categories == "all" else categories
    try:
        truth = read_labels(labels, wanted, partial=True)
    except DataError:
        first = next((path for path in predictions if _holds_labels(path, wanted)), None)
        if first and not _holds_labels(labels, wanted) and labels.is_file():
            raise DataError(f"{first} looks like labels and {labels} does not; the labels come last") from None
        if labels.is_file() and not set(wanted) & set(read_frame(labels).columns):
            raise DataError(_lacking(labels, wanted, categories)) from None
        raise
    lacking = [category for category in wanted if category not in truth.categories]
    if lacking and categories != "all":
        raise DataError(_lacking(labels, lacking, categories))
    notes = [f"not scored, without a column in {labels}: {', '.join(lacking)}"] if lacking else []
    return truth, notes


def _holds_labels(path: Path, categories: Sequence[str]) -> bool:
    try:
        read_labels(path, categories, partial=True)
    except CxrCftError:
        return False
    return True


def _lacking(labels: Path, lacking: Sequence[str], categories: Choice) -> str:
    """What to do about categories that the labels have no column for."""
    columns = list(read_frame(labels).columns)
    asked = first_few(f"{category}{did_you_mean(category, columns)}" for category in lacking)
    others = [category for category in CATEGORIES if category in columns]
    if others and categories == COMPETITION:
        remedy = f"; --categories '{','.join(others)}' scores those that it has"
    elif "did you mean" in asked:
        remedy = ""
    else:
        remedy = f"; its columns are {first_few(columns, 20)}"
    return f"{labels} has no column {asked}{remedy}"
