"""`cxr-cft explain`: where in its pictures a run finds what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxr_cft.cli import console
from cxr_cft.cli.options import DEFAULT_WEIGHTS, ImageRoot, Weights, listed_categories


def explain(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, by folder or by name under --weights.")],
    csv: Annotated[Path, typer.Option("--csv", metavar="CSV", help="A CSV with the column Path, with labels or not.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pages go, and index.csv.")],
    study: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STUDY",
            help="A study's path or parts of it: patient00001/study1, patient00001; repeatable.",
            show_default="all",
        ),
    ] = None,
    categories: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="The categories to show.", show_default="all that it predicts"),
    ] = None,
    head: Annotated[
        Literal["trained", "tuned"] | None,
        typer.Option(help="By which head.", show_default="the one that CFT tuned, where it has"),
    ] = None,
    image_root: ImageRoot = None,
    weights: Weights = DEFAULT_WEIGHTS,
) -> None:
    """Draw heat maps: a PNG for every study, each view beside where it speaks for each category (Grad-CAM).

    Pages that are there already are kept. A run of frontal views is asked about a lateral one only where its study has
    no frontal one.
    """
    from cxr_cft.artifacts import find_runs
    from cxr_cft.evaluation.explain import explain_studies, read_asked

    names = listed_categories(categories) if categories is not None else None
    (found,) = find_runs([run], weights)
    table = read_asked(found, csv, study, image_root=image_root)
    tuned = None if head is None else head == "tuned"
    done = explain_studies(found, table, out, names, tuned=tuned, progress=console.TerminalProgress())
    others = done.listed - done.drawn - done.kept
    console.say(f"{out}: drawn {done.drawn}" + f", kept {done.kept}" * bool(done.kept))
    console.say(f"{out / 'index.csv'}: lists {done.listed}" + f", {others} of other calls" * bool(others))
