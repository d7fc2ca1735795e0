"""From views to studies: names and aggregation, the same in the package and in the bundle, which carries this file.

Only the standard library and numpy: it must run where nothing else of the project is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[np.float64]]

AGGREGATION = "max"
"""A study's probability is its most suspicious view's: the organisers' baseline and the entrants' convention."""


def study_of(path: str) -> str:
    """The study that a view belongs to: the path as given, character for character, without the file's name."""
    return path.rpartition("/")[0]


def aggregate_views(paths: Sequence[str], probabilities: Array) -> tuple[list[str], Array]:
    """Join the views of each study, in the order in which the studies first appear.

    `probabilities` is (views, C); nan marks a view without a prediction, which its study's other views replace.
    Returns the studies and their (studies, C) probabilities, nan where no view has one.
    """
    position: dict[str, int] = {}
    index = np.asarray([position.setdefault(study_of(path), len(position)) for path in paths], dtype=np.intp)
    joined = np.full((len(position), *probabilities.shape[1:]), -np.inf)
    np.maximum.at(joined, index, np.where(np.isnan(probabilities), -np.inf, probabilities))
    return list(position), np.where(np.isneginf(joined), np.nan, joined)
