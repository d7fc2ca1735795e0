"""Which findings a patient has: they come together as in real chests, and each has a severity and a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from cxr_cft.data.labels import CATEGORIES

# CheXpert's label hierarchy (Irvin et al. 2019, figure 1): a parent is true whenever one of its children is.
OPACITIES = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")

# Per drawn finding: prevalence in valid and test, prevalence in train, and loadings on three hidden causes (general
# sickness, a failing heart, infection). The competition's prevalences are CheXpert's valid and test in kind; rare
# categories are raised to 0.05 or more so that they can be scored. Train is sicker where CheXpert's table has more
# known positives than the fully labelled splits have true ones. "Lung Opacity" and "Enlarged Cardiomediastinum" are
# here those without a child. Loadings are assumed: edema with effusion and a large heart, pneumonia with consolidation,
# devices with the sickest.
_CAUSES: Mapping[str, tuple[float, float, tuple[float, float, float]]] = {
    "Enlarged Cardiomediastinum": (0.14, 0.14, (0.3, 0.3, 0.0)),
    "Cardiomegaly": (0.28, 0.28, (0.15, 0.75, 0.0)),
    "Lung Opacity": (0.11, 0.11, (0.4, 0.0, 0.3)),
    "Lung Lesion": (0.07, 0.07, (0.1, 0.0, 0.0)),
    "Edema": (0.19, 0.29, (0.45, 0.65, 0.0)),
    "Consolidation": (0.14, 0.16, (0.35, 0.0, 0.65)),
    "Pneumonia": (0.08, 0.09, (0.15, 0.0, 0.8)),
    "Atelectasis": (0.30, 0.30, (0.5, 0.15, 0.25)),
    "Pneumothorax": (0.06, 0.105, (0.3, 0.0, 0.0)),
    "Pleural Effusion": (0.28, 0.45, (0.4, 0.5, 0.25)),
    "Pleural Other": (0.05, 0.05, (0.1, 0.0, 0.2)),
    "Fracture": (0.055, 0.055, (0.2, 0.0, 0.0)),
    "Support Devices": (0.50, 0.56, (0.75, 0.25, 0.0)),
}
DRAWN = tuple(_CAUSES)

# How much of each hidden cause is still there at a patient's next study. Assumed.
PERSISTENCE = 0.75


@dataclass(frozen=True)
class Sign:
    """How a finding shows in one study: `severity` 0 (faint) to 1 (strong), side (-1 the patient's right) and place."""

    severity: float
    side: int
    high: float  # 0 top to 1 bottom
    out: float  # 0 at the hilum to 1 at the wall
    deep: float  # 0 front to 1 back
    seed: int


@dataclass(frozen=True)
class Condition:
    """The hidden state of a patient at one study, as standard normal numbers."""

    causes: np.ndarray  # (3,)
    own: np.ndarray  # (findings,)


def draw_condition(rng: np.random.Generator, before: Condition | None = None) -> Condition:
    """A condition, or how an earlier one went on."""
    causes, own = rng.standard_normal(3), rng.standard_normal(len(DRAWN))
    if before is None:
        return Condition(causes, own)
    fresh = (1 - PERSISTENCE**2) ** 0.5
    return Condition(PERSISTENCE * before.causes + fresh * causes, PERSISTENCE * before.own + fresh * own)


def severities(condition: Condition, *, train: bool) -> dict[str, float]:
    """The findings present and how severe: how far past the threshold, uniform in 0..1 among those who have it."""
    normal = NormalDist()
    present = {}
    for index, (finding, (elsewhere, in_train, loadings)) in enumerate(_CAUSES.items()):
        prevalence = in_train if train else elsewhere
        weights = np.asarray(loadings)
        level = float(weights @ condition.causes + (1 - weights @ weights) ** 0.5 * condition.own[index])
        beyond = 1 - normal.cdf(level)
        if beyond < prevalence:
            present[finding] = 1 - beyond / prevalence
    return present


def draw_signs(rng: np.random.Generator, present: Mapping[str, float]) -> dict[str, Sign]:
    """A place for each finding; the draws of one finding do not depend on which others are present."""
    signs = {}
    for finding in DRAWN:
        side = 1 if rng.random() < 0.5 else -1
        high, out, deep = rng.random(3)
        seed = int(rng.integers(2**32))
        if finding in present:
            signs[finding] = Sign(present[finding], side, float(high), float(out), float(deep), seed)
    # An opacity without a child shows as a haze only if there is none of the specific ones.
    if any(child in signs for child in OPACITIES):
        signs.pop("Lung Opacity", None)
    return signs


def truth(present: Mapping[str, float]) -> dict[str, float]:
    """1.0 or 0.0 for every category, with CheXpert's hierarchy applied."""
    found = set(present)
    if "Cardiomegaly" in found:
        found.add("Enlarged Cardiomediastinum")
    if found.intersection(OPACITIES):
        found.add("Lung Opacity")
    if not found - {"Support Devices"}:
        found.add("No Finding")
    return {category: float(category in found) for category in CATEGORIES}


def sickness(condition: Condition) -> float:
    """General sickness, standard normal: the sick are radiographed in bed (AP)."""
    return float(condition.causes[0])


def heart_failure(condition: Condition) -> float:
    """The failing heart's strength, standard normal: it comes with age."""
    return float(condition.causes[1])
