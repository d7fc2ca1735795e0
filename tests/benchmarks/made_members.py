"""Made members of an ensemble: each moves for a positive by what it is worth, under a noise of deviation 1."""

from pathlib import Path

import numpy as np

from cxr_cft.data.labels import COMPETITION
from cxr_cft.data.predictions import Rows
from cxr_cft.ensemble import Member
from cxr_cft.ensemble.problem import Problem

RATES = (0.34, 0.29, 0.14, 0.19, 0.29)  # of positives among CheXpert's 234 validation views, COMPETITION's order
KINDS = {
    "a": "ten equally good and independent",
    "b": "three good, seven noise",
    "c": "one far better than the rest",
    "d": "five copies of one and two others",
    "e": "members good on different categories",
}


def strengths(kind):
    """How many deviations of its noise a member (M, C) moves for a positive; and which noise it has (M,)."""
    own = np.arange(10)
    if kind == "a":
        return np.full((10, 5), 0.5), own
    if kind == "b":
        return np.repeat([[1.2]] * 3 + [[0.0]] * 7, 5, axis=1), own
    if kind == "c":
        return np.repeat([[2.0]] + [[0.3]] * 9, 5, axis=1), own
    if kind == "d":
        return np.full((7, 5), 1.0), np.array([0, 0, 0, 0, 0, 1, 2])
    return np.where(np.arange(5) == (own % 5)[:, None], 1.2, 0.2), own


def draw(kind, studies, rng):
    """Labels (S, C) and the members' logits (M, S, C)."""
    strength, noise = strengths(kind)
    labels = (rng.random((studies, 5)) < RATES).astype(np.float64)
    own = rng.standard_normal((noise.max() + 1, studies, 5))
    return labels, strength[:, None] * labels + own[noise]


def names(studies):
    """As many studies, one a patient."""
    return [f"made/patient{number:05d}/study1" for number in range(studies)]


def member(name, scores, studies, categories=COMPETITION):
    """A member of scores (S, C)."""
    path = Path(f"{name}.csv")
    return Member(name, "csv", path, False, "0" * 64, Rows(path, "study", tuple(studies), tuple(categories), scores))


def problem(scores, labels, seed):
    """What the search works on, one study a patient, every category scored."""
    return Problem({"max": scores}, labels, np.arange(len(labels)), range(labels.shape[1]), seed)
