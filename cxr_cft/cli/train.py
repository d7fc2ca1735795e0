"""`cxr-cft train` and `train-all`: recipes to runs."""

from __future__ import annotations

from typing import Annotated

import typer

from cxr_cft.cli import console
from cxr_cft.cli.options import DEFAULT_WEIGHTS, Data, ImageRoot, Weights
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
    image_root: ImageRoot = None,
) -> None:
    """Train backbones, one run each, blanks assumed negative; what comes out lies in DIR/NAME."""
    from cxr_cft.settings import load_recipe
    from cxr_cft.training.train import train_run

    if name is not None and len(recipes) > 1:
        raise typer.BadParameter("one name cannot serve several recipes", param_hint="--name")
    loaded = [load_recipe(recipe, overrides or ()) for recipe in recipes]  # all of them, before hours go into the first
    for stem, recipe in loaded:
        run_name = stem if name is None else name
        run = train_run(
            recipe, run_name, data, weights, image_root=image_root, resume=resume, progress=console.TerminalProgress()
        )
        metrics = run.info["metrics"]
        console.say(
            f"{run.path}: validation mean AUROC {metrics['valid_mean_auroc']:.4f} at epoch {metrics['best_epoch']}, "
            "which was chosen there"
        )


def train_all(
    data: Data,
    weights: Weights = DEFAULT_WEIGHTS,
    overrides: Overrides = None,
    image_root: ImageRoot = None,
) -> None:
    """Train every shipped recipe but the demo's; what is complete is kept, what is unfinished is resumed."""
    from cxr_cft.artifacts import open_run
    from cxr_cft.data.table import data_folder
    from cxr_cft.settings import load_recipe, shipped_recipes

    data_folder(data)
    names = [name for name in shipped_recipes() if not name.startswith("demo_")]
    recipes = {name: load_recipe(name, overrides or ())[1] for name in names}
    failed = []
    for name, recipe in recipes.items():
        if (weights / name / "run.json").exists():
            same = open_run(weights / name).info["recipe"] == recipe.model_dump(mode="json")
            console.say(f"{weights / name}: complete{'' if same else ' (with other settings than now)'}, kept")
            continue
        try:
            train([name], data, weights, overrides=overrides, resume=True, image_root=image_root)
        except CxrCftError as error:
            console.say(f"{weights / name}: failed: {error}")
            failed.append(name)
    if failed:
        raise CxrCftError(f"{len(failed)} of {len(recipes)} recipes failed, as told above: {', '.join(failed)}")
