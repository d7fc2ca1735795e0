"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Weights = Annotated[Path, typer.Option("--weights", metavar="DIR", help="Folder of the runs.")]
Data = Annotated[
    Path,
    typer.Option("--data", metavar="ROOT", help="Data folder: train.csv, valid.csv and, if there is one, test.csv."),
]
Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...", help="Runs, by folder or by name under --weights.", show_default="every complete run"
    ),
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder that the paths continue.", show_default="the CSV's, or the one above"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

DEFAULT_WEIGHTS = Path("weights")
DEFAULT_ENSEMBLE = "ensemble.json"


def listed_categories(text: str) -> list[str]:
    """The names of `--categories NAME,NAME`. Raises typer.BadParameter for a list with a gap."""
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise typer.BadParameter("name at least one, and commas between them alone", param_hint="--categories")
    return list(dict.fromkeys(names))
