"""What train's labels hide: the truth told, doubted or left out at CheXpert's rates per category."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib import resources

import numpy as np

from cxr_cft.data.labels import CATEGORIES

POSITIVE, NEGATIVE, UNCERTAIN, BLANK = "1.0", "0.0", "-1.0", ""

# Prevalence of the truth in train; a test compares it with a large draw. Those that follow from others by the hierarchy
# are measured, the others are the findings' own.
TRAIN_PREVALENCE: Mapping[str, float] = {
    "No Finding": 0.207,
    "Enlarged Cardiomediastinum": 0.356,
    "Cardiomegaly": 0.28,
    "Lung Opacity": 0.594,
    "Lung Lesion": 0.07,
    "Edema": 0.29,
    "Consolidation": 0.16,
    "Pneumonia": 0.09,
    "Atelectasis": 0.30,
    "Pneumothorax": 0.105,
    "Pleural Effusion": 0.45,
    "Pleural Other": 0.05,
    "Fracture": 0.055,
    "Support Devices": 0.56,
}
# Of the uncertain labels, the share whose truth is positive: reports doubt what is faint more often than what is not
# there. Assumed.
DOUBTED_POSITIVE = 0.6


def label_rates() -> dict[str, dict[str, float]]:
    """CheXpert's train label rates: category to the shares of positive, negative, uncertain and blank."""
    text = resources.files("cxr_cft.data").joinpath("chexpert-label-rates.csv").read_text(encoding="utf-8")
    return {
        row["category"]: {state: float(row[state]) for state in ("positive", "negative", "uncertain", "blank")}
        for row in csv.DictReader(text.splitlines())
    }


def full_labels(truth: Mapping[str, float]) -> list[str]:
    """Labels of a fully labelled split, in the order of `CATEGORIES`."""
    return [POSITIVE if truth[category] else NEGATIVE for category in CATEGORIES]


def hidden_labels(
    rng: np.random.Generator,
    truth: Mapping[str, float],
    severity: Mapping[str, float],
    rates: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """Labels of one train study, in the order of `CATEGORIES`.

    Known labels are always true. Given the truth, each state's probability is chosen so that the shares over all
    studies are the table's; among positives, doubt falls as severity (uniform in 0..1) grows.
    """
    labels = []
    for category in CATEGORIES:
        wanted, prevalence = rates[category], TRAIN_PREVALENCE[category]
        draw = rng.random()
        # Doubt weighs 2 x (1 - severity), which is 1 on average, and must stay a probability for the faintest.
        doubted = min(DOUBTED_POSITIVE * wanted["uncertain"], 0.5 * prevalence)
        if truth[category]:
            doubt = doubted / prevalence * 2 * (1 - severity.get(category, 0.5))
            told = min(1.0, wanted["positive"] / (prevalence - doubted)) * (1 - doubt)
            known = POSITIVE
        else:
            doubt = (wanted["uncertain"] - doubted) / (1 - prevalence)
            told = wanted["negative"] / (1 - prevalence)
            known = NEGATIVE
        labels.append(known if draw < told else UNCERTAIN if draw < told + doubt else BLANK)
    return labels
