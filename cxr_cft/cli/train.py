"""`cxr-cft train` and `train-all`: recipes to runs."""

from __future__ import annotations

from typing import Annotated

import typer

from cxr_cft.cli import console
from cxr_cft.cli.options import DEFAULT_WEIGHTS, Data, Weights
from cxr_cft.errors import CxrCftError

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe's key, e.g. training.epochs=3; repeatable."),
]


def train(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Names of shipped recipes or .toml files.")],
    data: Data,
    weights: Weights = DEFAULT_WEIGHTS,
    name: Annotated[str | None, typer.Option(help="The run's name; by default the recipe's.")] = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run of that name.")] = False,
) -> None:
    """Train backbones, one run each, blanks assumed negative; what comes out lies in DIR/NAME."""
    from cxr_cft.settings import load_recipe
    from cxr_cft.training.train import train_run

    if name is not None and len(recipes) > 1:
        raise typer.BadParameter("one name cannot serve several recipes", param_hint="--name")
    progress = console.TerminalProgress()
    loaded = [load_recipe(recipe, overrides or ()) for recipe in recipes]  # all of them, before hours go into the first
    for stem, recipe in loaded:
        run = train_run(recipe, name or stem, data, weights, resume=resume, progress=progress)
        metrics = run.info["metrics"]
        console.say(
            f"{run.path}: validation mean AUROC {metrics['valid_mean_auroc']:.4f} at epoch {metrics['best_epoch']}, "
            "which was chosen there"
        )


def train_all(
    data: Data,
    weights: Weights = DEFAULT_WEIGHTS,
    overrides: Overrides = None,
) -> None:
    """Train every shipped recipe but the demo's; what is complete is kept, what is unfinished is resumed."""
    from cxr_cft.settings import shipped_recipes

    failed = []
    for recipe in shipped_recipes():
        if recipe.startswith("demo_"):
            continue
        if (weights / recipe / "run.json").exists():
            console.say(f"{weights / recipe}: complete, kept")
            continue
        try:
            train([recipe], data, weights, overrides=overrides, resume=True)
        except CxrCftError as error:
            failed.append(f"{recipe}: {error}")
    if failed:
        raise CxrCftError("; ".join(failed))
