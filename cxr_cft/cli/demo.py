"""`cxr-cft demo`: the whole way on phantoms, by the very commands that a user would type."""

from __future__ import annotations

import shlex
import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxr_cft.cli import console
from cxr_cft.errors import CxrCftError

if TYPE_CHECKING:
    from cxr_cft.evaluation.score import Score

RECIPES = ("demo_densenet", "demo_convnext", "demo_efficientnetv2")
MARK = ".made-by-cxr-cft-demo"  # what says that a folder may be replaced: the demo made it


def demo(
    context: typer.Context,
    patients: Annotated[int, typer.Option(help="Phantom patients; fewer are quicker and prove less.")] = 2000,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each backbone.", show_default="the recipes'")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of phantoms, training and searches.")] = 0,
    weights: Annotated[Path, typer.Option(metavar="DIR", help="Where data and runs go.")] = Path("weights/demo"),
    submissions: Annotated[Path, typer.Option(metavar="DIR", help="Where the bundle goes.")] = Path("submissions"),
) -> None:
    """Do it all on made radiographs: data, three backbones, CFT, ensemble, bundle, offline prediction, score."""
    begin = time.monotonic()
    step = partial(_step, context)
    _clear(weights)
    data, found = weights / "phantoms", weights / "ensemble.json"
    overrides = [] if epochs is None else ["--set", f"training.epochs={epochs}"]
    step("data", "phantoms", data, "--patients", patients, "--seed", seed)
    step("data", "inspect", data)
    step("train", *RECIPES, "--data", data, "--weights", weights, *overrides, *_seed(seed))
    step("cft", "--weights", weights)
    step("ensemble", "--weights", weights, "--seed", seed)
    step("package-submission", "--weights", weights, "--name", "demo", "--out", submissions)
    bundle, output = submissions / "demo", weights / "server-output.csv"
    step("verify-submission", bundle, "--csv", data / "test.csv", "--out", output, "--weights", weights)
    blends = {use: weights / f"test-{use}.csv" for use in ("equal", "ga")}
    files = ("test.views.csv", "test.views.cft.csv")  # of the trained head, and of the tuned one
    members = [weights / recipe / "predictions" / file for recipe in RECIPES for file in files]
    for use, path in blends.items():
        given = [part for member in members for part in ("--predictions", member)]
        step("blend", found, *given, "--use", use, "--out", path)
    step("score", output, data / "test.csv")
    page = weights / "report.html"
    step("report", "--weights", weights, "--submissions", submissions, "--out", page)
    _print_table(weights, data / "test.csv", blends, output)
    for what, where in (
        ("data", data),
        ("runs", weights),
        ("ensemble", found),
        ("bundle", f"{bundle}/ and {bundle}.zip"),
        ("the server's output", output),
    ):
        console.say(f"{what}: {where}")
    console.say(f"done in {time.monotonic() - begin:.0f} s; open the page on all of it: {page}")


def _clear(folder: Path) -> None:
    from cxr_cft.artifacts import make_folder

    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise CxrCftError(f"{folder} is not empty and was not made by the demo; give another folder by --weights")
        shutil.rmtree(folder)
    make_folder(folder)
    (folder / MARK).touch()


def _step(context: typer.Context, *words: object) -> None:
    """Show a command and run it, as if it had been typed."""
    typed = [str(word) for word in words]
    console.stdout().print(f"\n$ cxr-cft {shlex.join(typed)}", style="bold", soft_wrap=True, markup=False)
    context.find_root().command.main(args=typed, standalone_mode=False)


def _seed(seed: int) -> list[str]:
    """Recipes bring seeds of their own, different ones; another demo seed moves them all to itself."""
    return ["--set", f"seed={seed}"] if seed else []


def _print_table(weights: Path, labels: Path, blends: dict[str, Path], output: Path) -> None:
    from cxr_cft.data.truth import read_labels
    from cxr_cft.evaluation.score import score_file

    truth = read_labels(labels)
    rows = []
    for recipe in RECIPES:
        folder = weights / recipe / "predictions"
        before, after = (score_file(folder / name, truth) for name in ("test.csv", "test.cft.csv"))
        rows.append((recipe, _cell(before), _cell(after), f"{after.mean_auroc - before.mean_auroc:+.4f}"))
    for name, path in (("equal-weight ensemble", blends["equal"]), ("GA ensemble", blends["ga"])):
        rows.append((name, "", _cell(score_file(path, truth)), ""))
    rows.append(("bundle, as the server ran it", "", _cell(score_file(output, truth)), ""))
    positives = ", ".join(f"{count} {name}" for name, count in score_file(output, truth).positives.items())
    console.table(
        f"mean AUROC of the five competition categories on {len(truth.studies)} held-out studies (95 % interval)",
        ["", ">before CFT", ">after CFT", ">gain"],
        rows,
    )
    console.say(f"positives among the {len(truth.studies)}: {positives}")
    console.say("none of these studies chose an epoch, a head or a weight")


def _cell(found: Score) -> str:
    low, high = found.mean_interval
    return f"{found.mean_auroc:.4f} ({low:.3f} to {high:.3f})"
