"""The prediction CSV, which stages and other tools exchange: a row a study (or view), a column a category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from cxr_cft.artifacts import write_csv
from cxr_cft.data.studies import aggregate_views
from cxr_cft.data.table import Table, read_frame
from cxr_cft.errors import PredictionsError, did_you_mean, first_few


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores (S, C) of studies; probabilities, or whatever another tool wrote."""

    source: Path
    studies: tuple[str, ...]
    categories: tuple[str, ...]
    scores: NDArray[np.float64]

    def rows(self, studies: Sequence[str]) -> NDArray[np.float64]:
        """The scores (len(studies), C) in the order of `studies`. Raises PredictionsError naming the missing."""
        position = {study: row for row, study in enumerate(self.studies)}
        missing = [study for study in studies if study not in position]
        if missing:
            raise PredictionsError(
                f"{self.source} has no row for {len(missing)} of {len(studies)} studies: {first_few(missing)}"
            )
        return self.scores[[position[study] for study in studies]]


def write_predictions(
    path: Path, names: Sequence[str], categories: Sequence[str], scores: NDArray[np.float64], key: str = "Study"
) -> None:
    """Write scores (len(names), C) atomically, in the shortest decimal form that reads back as the same float64."""
    rows = ([name, *(repr(float(score)) for score in row)] for name, row in zip(names, scores, strict=True))
    write_csv(path, [key, *categories], rows)


def write_logits(
    path: Path, table: Table, logits: NDArray[np.floating], level: Literal["study", "image"] = "study"
) -> None:
    """Write the probabilities of a table's views (logits (N, C)), or of its studies, atomically.

    The sigmoid is taken in float64: in float32 it is 1 for every logit above 17, and ranks are lost.
    """
    probabilities = expit(logits.astype(np.float64))
    if level == "image":
        write_predictions(path, table.paths, table.categories, probabilities, key="Path")
    else:
        studies, joined = aggregate_views(table.paths, probabilities)
        write_predictions(path, studies, table.categories, joined)


def read_predictions(source: Path, categories: Sequence[str]) -> Predictions:
    """Read a prediction CSV of any tool: columns and rows in any order, others beside them, trailing slashes.

    `Path` rows are joined to studies. Raises PredictionsError for a missing column, a doubled study, and a score that
    is no finite number, naming line and column.
    """
    frame = read_frame(source)
    key = next((name for name in ("Study", "Path") if name in frame.columns), None)
    if key is None:
        raise PredictionsError(f"{source} has neither a column Study nor a column Path")
    scores = np.column_stack([_column(frame, category, source) for category in categories])
    names = [name.strip().rstrip("/") for name in frame[key]]
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise PredictionsError(f"{source} has {len(doubled)} {key} values more than once: {first_few(doubled)}")
    if key == "Path":
        names, scores = aggregate_views(names, scores)
    return Predictions(source, tuple(names), tuple(categories), scores)


def _column(frame: pd.DataFrame, category: str, source: Path) -> NDArray[np.float64]:
    if category not in frame.columns:
        raise PredictionsError(f"{source} has no column {category}{did_you_mean(category, frame.columns)}")
    values = np.array([_number(text) for text in frame[category]], dtype=np.float64)
    wrong = ~np.isfinite(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise PredictionsError(
            f"{source}, line {frame.index[row]}, {category}: '{frame[category].iloc[row]}' is no finite number"
        )
    return values


def _number(text: str) -> float:
    """The nearest float64, nan for no number; not every version of pandas.to_numeric reads to the last bit."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
