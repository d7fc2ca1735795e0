"""`cxr-cft score`: the competition's numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxr_cft.cli import console
from cxr_cft.cli.options import Json

if TYPE_CHECKING:
    from cxr_cft.evaluation.score import Score


def score(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS.csv", help="A row a study, a column a category.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS.csv", help="The same studies with their labels.")],
    as_json: Json = False,
) -> None:
    """Score predictions as the competition does: AUROC of the five categories, radiologists under each curve."""
    from cxr_cft.evaluation.score import score_file

    found = score_file(predictions, labels)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        print_score(found, predictions.name)


def print_score(found: Score, title: str) -> None:
    """Print a score as a table."""
    rows: list[tuple[object, ...]] = [
        (
            category,
            found.positives[category],
            _number(value),
            _interval(found.interval[category]),
            found.radiologists.get(category, "–"),
        )
        for category, value in found.auroc.items()
    ]
    rows.append(
        ("mean", "", _number(found.mean_auroc), _interval(found.mean_interval), _number(found.mean_radiologists, 2))
    )
    columns = [
        "category",
        ">positives",
        ">AUROC",
        "95 % (over patients)",
        ">CheXpert's radiologists under ROC, of 3",
    ]
    console.table(f"{title}: {found.studies} studies", columns, rows)
    undefined = [category for category, value in found.auroc.items() if math.isnan(value)]
    if undefined:
        console.say(f"left out of the mean, without both classes: {', '.join(undefined)}")


def _number(value: float, digits: int = 4) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _interval(ends: tuple[float, float]) -> str:
    return "too few positives" if math.isnan(ends[0]) else f"{ends[0]:.4f} to {ends[1]:.4f}"
