"""What `cxr-cft score` gives on request, as tables and JSON: sensitivity at a specificity, thresholds, calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxr_cft.cli import console, fitted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cxr_cft.data.truth import StudyLabels
    from cxr_cft.evaluation.operating import Calibration, Estimate, Threshold
    from cxr_cft.evaluation.score import Score

OPTIMISTIC = (
    "sensitivity and specificity are of the studies that chose the threshold, and optimistic; their intervals choose "
    "it on one resample of the patients and apply it to another"
)


@dataclass(frozen=True)
class Request:
    """What is asked for: the sensitivity at a specificity, the threshold for a sensitivity, Youden's, calibration."""

    specificity: float | None
    sensitivity: float | None
    youden: bool
    calibration: bool


@dataclass(frozen=True)
class Details:
    """What was asked for, by category; None where it was not."""

    request: Request
    sensitivities: dict[str, Estimate] | None
    thresholds: dict[str, dict[str, Threshold]]
    """By rule, as tables name it."""
    calibrations: dict[str, Calibration] | None
    not_probabilities: dict[str, float]
    """Categories with a score outside [0, 1], and that score: they have no calibration."""


def find_details(request: Request, scores: NDArray[np.float64], truth: StudyLabels) -> Details:
    """Work out what is asked for, of (S, C) scores in the order of the labels."""
    from cxr_cft.evaluation import operating

    thresholds = {}
    if request.youden:
        thresholds["Youden's threshold"] = operating.youden_thresholds(scores, truth)
    if request.sensitivity is not None:
        rule = f"threshold for a sensitivity of {request.sensitivity:g}"
        thresholds[rule] = operating.thresholds_for(scores, truth, request.sensitivity)
    at = request.specificity
    return Details(
        request,
        None if at is None else operating.sensitivities_at(scores, truth, at),
        thresholds,
        operating.calibrations(scores, truth) if request.calibration else None,
        operating.not_probabilities(scores, truth) if request.calibration else {},
    )


def details_json(found: Details) -> dict[str, Any]:
    """What was asked for as `--json` prints it, None for nan."""

    def shown(values: dict[str, Any]) -> dict[str, Any]:
        return {category: value.as_json() for category, value in values.items()}

    json: dict[str, Any] = {}
    if found.sensitivities is not None:
        json["sensitivity_at_specificity"] = {
            "specificity": found.request.specificity, "sensitivity": shown(found.sensitivities),
        }  # fmt: skip
    if found.thresholds:
        json["thresholds"] = {rule: shown(each) for rule, each in found.thresholds.items()}
    if found.calibrations is not None:
        json |= {"calibration": shown(found.calibrations), "not_probabilities": found.not_probabilities}
    return json


def print_details(found: Details, score: Score, title: str) -> None:
    """Print what was asked for as tables."""

    def show(what: str, columns: list[str], rows: dict[str, list[str]]) -> None:
        counted = [(category, fitted.counted(score, category), *cells) for category, cells in rows.items()]
        fitted.table(f"{title}: {what}", ["category", fitted.counts_heading(score), *columns], counted)

    def cell(category: str, estimate: Estimate, form: str = ".3f") -> str:
        return fitted.with_interval(*estimate, form=form, none=fitted.no_interval(score, category))

    if found.sensitivities is not None:
        what = f"sensitivity at a specificity of {found.request.specificity:g}"
        show(what, [">sensitivity (95 %)"], {name: [cell(name, each)] for name, each in found.sensitivities.items()})
    for rule, thresholds in found.thresholds.items():
        rows = {
            name: [cell(name, each.threshold, ".4g"), cell(name, each.sensitivity), cell(name, each.specificity)]
            for name, each in thresholds.items()
        }
        show(rule, [">threshold (95 %)", ">sensitivity (95 %)", ">specificity (95 %)"], rows)
    if found.thresholds:
        console.say(OPTIMISTIC)
    if found.calibrations is not None:
        _print_calibrations(found.calibrations, show, cell)
        for category, value in found.not_probabilities.items():
            console.say(f"{category} has no calibration: its scores are no probabilities, one is {value:g}")


def _print_calibrations(
    calibrations: dict[str, Calibration],
    show: Callable[[str, list[str], dict[str, list[str]]], None],
    cell: Callable[[str, Estimate], str],
) -> None:
    rows = {
        name: [cell(name, each.brier), fitted.number(each.base_rate, ".3f"), cell(name, each.error),
               fitted.number(each.perfect, ".3f")]
        for name, each in calibrations.items()
    }  # fmt: skip
    if rows:
        columns = [">Brier score (95 %)", ">base rate's", ">calibration error (95 %)", ">if perfect"]
        show("calibration", columns, rows)
        console.say(
            "lower is better; the base rate's Brier score is that of the share of positives, given to every study, and "
            "the error if perfect what as many studies show by chance"
        )
