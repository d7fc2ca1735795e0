"""`cxr-cft card`: the model card of an ensemble, before or without packaging it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr_cft.cli import console
from cxr_cft.cli.options import DEFAULT_ENSEMBLE, DEFAULT_WEIGHTS, Weights


def card(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.json]", help="What `cxr-cft ensemble` wrote.", show_default="DIR/ensemble.json"),
    ] = None,
    name: Annotated[str, typer.Option(help="What the card is headed.")] = "submission",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Where it goes.", show_default="MODEL_CARD.md beside FILE")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="ROOT", help="The runs' data folder, if it has moved.")
    ] = None,
    weights: Weights = DEFAULT_WEIGHTS,
) -> None:
    """Write the model card: data, labels and policies, results with intervals, intended use and limits.

    A bundle gets the same by itself, with what exporting its models showed.
    """
    from cxr_cft.artifacts import write_text
    from cxr_cft.ensemble.file import read_ensemble
    from cxr_cft.errors import CxrCftError
    from cxr_cft.submission.bundle import MANIFEST
    from cxr_cft.submission.card import CARD, model_card
    from cxr_cft.submission.contents import contents_of
    from cxr_cft.submission.evidence import learnt_from, worth_on_test

    path = file or weights / DEFAULT_ENSEMBLE
    target = out or path.parent / CARD
    if target.is_dir() or target.resolve() == path.resolve():
        raise CxrCftError(
            f"{target} cannot be the card: it is {'a folder' if target.is_dir() else 'read'}; give a file"
        )
    if (target.parent / MANIFEST).is_file():
        raise CxrCftError(
            f"{target} lies in a packaged bundle, whose files must stay as packaged; package it again, or give another"
            " --out"
        )
    contents = contents_of(read_ensemble(path), path.parent)
    evidence = learnt_from(contents, data), worth_on_test(contents, data, path.parent)
    write_text(target, model_card(name, contents, *evidence))
    console.say(f"wrote {target}")
