"""`cxr-cft cft`: tune the heads of runs, category by category."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxr_cft.cli import console
from cxr_cft.cli.options import DEFAULT_WEIGHTS, Runs, Weights

if TYPE_CHECKING:
    import pandas as pd


class Method(str, Enum):
    """The methods, as typer takes a repeatable choice."""

    BCE = "bce"
    ASL = "asl"
    GA = "ga"


def cft(
    runs: Runs = None,
    methods: Annotated[
        list[Method] | None,
        typer.Option("--method", help="A method to try; repeatable.", show_default="the recipe's"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="ROOT", help="The data folder, if it has moved since training.")
    ] = None,
    weights: Weights = DEFAULT_WEIGHTS,
) -> None:
    """Tune each category's logistic regression on its known labels; keep what is better on validation."""
    from cxr_cft.artifacts import find_runs
    from cxr_cft.cft.tune import tune_run

    progress = console.TerminalProgress()
    for run in find_runs(runs or (), weights):
        progress.note(f"fine-tuning {run.name}")
        report = tune_run(run, root=data, methods=[method.value for method in methods or ()], progress=progress)
        _print(run.name, report)


def _print(name: str, report: pd.DataFrame) -> None:
    rows = []
    for row in report.to_dict("records"):
        tuned = row["method"] != "original"
        rows.append(
            (
                row["category"],
                f"{row['train_positives']}/{row['train_negatives']}",
                f"{row['valid_positives']}/{row['valid_negatives']}",
                row["method"],
                "" if row["before"] != row["before"] else f"{row['before']:.4f}",
                f"{row['after']:.4f}" if tuned else "",
                f"{row['seconds']:.1f}",
                row["reason"] or "",
            )
        )
    columns = [
        "category",
        ">train +/−",
        ">valid +/−",
        "method",
        ">before",
        ">after",
        ">seconds",
        "left as it was because",
    ]
    console.table(f"{name}: validation score per category (it chose the method: 'after' is optimistic)", columns, rows)
