"""`cxr-cft ensemble` and `blend`: find weights over members, and apply them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxr_cft.cli import console
from cxr_cft.cli.options import DEFAULT_ENSEMBLE, DEFAULT_WEIGHTS, Weights

if TYPE_CHECKING:
    from cxr_cft.ensemble.file import Ensemble


def ensemble(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Runs, by folder or by name under --weights.",
            show_default="every complete run; with --predictions, none",
        ),
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option("--predictions", metavar="CSV", help="Validation predictions of another tool; repeatable."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Validation labels.", show_default="valid.csv of the runs' data")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Where the weights go.", show_default="DIR/ensemble.json")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed finds the same weights.")] = 0,
    weights: Weights = DEFAULT_WEIGHTS,
) -> None:
    """Search ensemble weights on the validation studies, and say out of fold whether they beat equal weights."""
    from cxr_cft.ensemble.file import write_ensemble
    from cxr_cft.ensemble.search import search_ensemble

    found = search_ensemble(
        runs or (), weights, predictions or (), labels, seed=seed, progress=console.TerminalProgress()
    )
    path = out or weights / DEFAULT_ENSEMBLE
    write_ensemble(path, found)
    _print(found)
    console.say(f"wrote {path}")


def blend(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="What `cxr-cft ensemble` wrote.")],
    predictions: Annotated[
        list[str],
        typer.Option(
            "--predictions",
            metavar="[NAME=]CSV",
            help="A member's predictions of other studies, one CSV a member; its stem or NAME is the member's.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="CSV", help="Where the blended probabilities go.")],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[[NAME=]CSV]...", help="Further CSVs behind one --predictions.", show_default=False),
    ] = None,
    use: Annotated[
        Literal["chosen", "equal", "ga"], typer.Option("--use", help="Which of the file's weights.")
    ] = "chosen",
) -> None:
    """Apply found weights to other rows of the same members."""
    from cxr_cft.ensemble.apply import blend_csvs
    from cxr_cft.ensemble.file import read_ensemble

    studies = blend_csvs(read_ensemble(file).using(use), [*predictions, *(more or ())], out)
    console.say(f"{out}: {studies} rows")


def _print(found: Ensemble) -> None:
    from cxr_cft.ensemble.file import OPTIMISM

    rows = []
    for name, each in (("equal weights", found.equal), ("genetic algorithm", found.ga)):
        weights = [f"{weight:.3f}" for weight in each.weights.values()]
        rows.append(
            (name, f"{each.fitted:.4f}", f"{each.out_of_fold:.4f} {_interval(each.interval)}".strip(), *weights)
        )
    columns = ["weights", ">fitted", ">out of fold (95 %)", *(f">{member.name}" for member in found.members)]
    console.table(f"mean AUROC of {len(found.scored)} categories on {found.studies} validation studies", columns, rows)
    positives = ", ".join(f"{count} {category}" for category, count in found.positives.items())
    console.say(f"positives among the {found.studies}: {positives}")
    if len(found.members) == 1:
        console.say("one member only: there is nothing to weigh")
    else:
        verdict = (
            "the genetic algorithm's weights win and are used"
            if found.chosen == "ga"
            else "no gain over equal weights can be told from chance; equal weights are used"
        )
        interval = _interval(found.interval, "+") or "(too few positives for an interval)"
        console.say(f"out of fold: genetic algorithm minus equal weights {found.difference:+.4f} {interval}: {verdict}")
    console.say(OPTIMISM)


def _interval(ends: tuple[float, float] | None, sign: str = "") -> str:
    return "" if ends is None else f"({ends[0]:{sign}.3f} to {ends[1]:{sign}.3f})"
