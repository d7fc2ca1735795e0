"""CheXpert's categories, and what the four raw label states become in training: targets and mask, always together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cxr_cft.errors import RecipeError, did_you_mean
from cxr_cft.settings import LabelSettings

POSITIVE, NEGATIVE, UNCERTAIN = 1.0, 0.0, -1.0  # CheXpert's CSV; blank is nan

CATEGORIES = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The 14 columns of CheXpert's CSV, in their order."""

COMPETITION = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""The five categories that the competition scores, in the order of its output's header."""


def chosen_categories(settings: LabelSettings) -> tuple[str, ...]:
    """The categories a recipe asks for, by name."""
    if settings.categories == "all":
        return CATEGORIES
    if settings.categories == "competition":
        return COMPETITION
    return settings.categories


def known_labels(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raw states (N, C) with everything but positive and negative turned to nan: uncertain counts as unknown."""
    return np.where((raw == POSITIVE) | (raw == NEGATIVE), raw, np.nan)


def training_targets(
    raw: NDArray[np.float64], categories: Sequence[str], settings: LabelSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Apply the policies: raw states (N, C) → targets (N, C) in {0, 1} and mask (N, C), 1 where the target counts.

    A category without a single known label is masked out altogether: nothing could be learnt but the policy itself.
    Raises RecipeError for a policy that names what is no category.
    """
    blank = _per_category("blank", settings.blank, categories, fallback="negative")
    uncertain = _per_category("uncertain", settings.uncertain, categories, fallback="ignore")
    targets = (raw == POSITIVE).astype(np.float32)
    mask = ~np.isnan(known_labels(raw))
    learnt = mask.any(axis=0)
    for column in range(len(categories)):
        if uncertain[column] != "ignore":
            rows = raw[:, column] == UNCERTAIN
            targets[rows, column] = uncertain[column] == "one"
            mask[rows, column] = True
        if blank[column] == "negative":
            mask[np.isnan(raw[:, column]), column] = True
    return targets, (mask & learnt).astype(np.float32)


def _per_category(key: str, policy: str | Mapping[str, str], categories: Sequence[str], fallback: str) -> list[str]:
    if isinstance(policy, str):
        return [policy] * len(categories)
    known = {"default", *CATEGORIES, *categories}
    for name in policy:
        if name not in known:
            raise RecipeError(f"labels.{key} names '{name}', which is no category{did_you_mean(name, known)}")
    return [policy.get(category, policy.get("default", fallback)) for category in categories]
