"""From views to studies: names and aggregation, the same in the package and in the bundle, which carries this file.

Only the standard library and numpy: it must run where nothing else of the project is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_cft.data.odds import expit, logit

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[np.float64]]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]

AGGREGATION = "max"
"""A study's probability is its most suspicious view's: the organisers' baseline and the entrants' convention."""

AGGREGATIONS = ("max", "mean", "logit_mean")
"""The ways of joining a study's views: their maximum, their mean, and the probability of their mean logit."""


def study_of(path: str) -> str:
    """The study that a view belongs to: the path as given, character for character, without the file's name."""
    return path.rpartition("/")[0]


def lateral_views(paths: Sequence[str], words: Sequence[str]) -> Flags:
    """Which views are lateral (views,): by the CSV's word, Frontal or Lateral in any case; without it, by the file.

    A file without a word is lateral if its own name says so, as CheXpert's `view2_lateral.jpg` does.
    """
    said = [word.strip().lower() for word in words]
    names = [path.rpartition("/")[2].lower() for path in paths]
    return np.array(
        [said[v] == "lateral" or (said[v] != "frontal" and "lateral" in name) for v, name in enumerate(names)],
        dtype=bool,
    )


def without_laterals(paths: Sequence[str], words: Sequence[str]) -> Flags:
    """Which views (views,) a model of frontal views is asked about: a lateral one only where its study has no frontal.

    `words` are the CSV's own for each view (see `lateral_views`), or blank.
    """
    lateral = lateral_views(paths, words)
    studies = [study_of(path) for path in paths]
    frontal = {study for v, study in enumerate(studies) if not lateral[v]}
    alone = np.array([study not in frontal for study in studies], dtype=bool)
    used: Flags = np.logical_or(~lateral, alone)
    return used


def aggregate_views(paths: Sequence[str], probabilities: Array, how: str = AGGREGATION) -> tuple[list[str], Array]:
    """Join the views of each study by one of `AGGREGATIONS`, in the order in which the studies first appear.

    `probabilities` is (views, C); nan marks a view without a prediction, which its study's other views replace. A
    category has logits if all its values given here, of whatever study, lie in [0, 1]; "logit_mean" takes the plain
    mean of one that has none. Returns the studies and their (studies, C) probabilities, nan where no view has one.
    Raises ValueError for another `how`.
    """
    if how not in AGGREGATIONS:
        raise ValueError(f"views are joined by one of {', '.join(AGGREGATIONS)}, not by {how}")
    position: dict[str, int] = {}
    index = np.asarray([position.setdefault(study_of(path), len(position)) for path in paths], dtype=np.intp)
    shape = (len(position), *probabilities.shape[1:])
    absent = np.isnan(probabilities)
    highest = np.full(shape, -np.inf)
    np.maximum.at(highest, index, np.where(absent, -np.inf, probabilities))
    if how == "max":
        return list(position), np.where(np.isneginf(highest), np.nan, highest)
    lowest = np.full(shape, np.inf)
    np.minimum.at(lowest, index, np.where(absent, np.inf, probabilities))
    has_logits = (how == "logit_mean") & (absent | ((probabilities >= 0) & (probabilities <= 1))).all(axis=0)
    total, views = np.zeros(shape), np.zeros(shape)
    np.add.at(total, index, np.where(absent, 0.0, np.where(has_logits, logit(probabilities), probabilities)))
    np.add.at(views, index, np.where(absent, 0.0, 1.0))
    mean = np.divide(total, views, out=np.full(shape, np.nan), where=views > 0)
    # Rounding, and the edge that logits are kept from, must not bring a study above or below all of its views.
    return list(position), np.clip(np.where(has_logits, expit(mean), mean), lowest, highest)
