"""`cxr-cft`: the commands, and how a mistake ends: one line on stderr and exit code 1."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cxr_cft import __version__
from cxr_cft.cli import card, cft, data, demo, ensemble, explain, predict, report, score, submission, train
from cxr_cft.errors import CxrCftError


class _Stages(TyperGroup):
    """Commands in the order in which a user needs them; typer would put `data`, which has commands of its own, last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: name != "data")


app = typer.Typer(
    name="cxr-cft",
    cls=_Stages,
    help="Chest X-ray competitions, from a CheXpert folder to a scored offline submission.",
    epilog="The usual way: data inspect → train → cft → ensemble → package-submission → verify-submission → report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("train-all")(train.train_all)
app.command("cft")(cft.cft)
app.command("predict")(predict.predict)
app.command("ensemble")(ensemble.ensemble)
app.command("blend")(ensemble.blend)
app.command("package-submission")(submission.package_submission)
app.command("verify-submission")(submission.verify_submission)
app.command("card")(card.card)
app.command("score")(score.score)
app.command("report")(report.report)
app.command("explain")(explain.explain)
app.command("demo")(demo.demo)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"cxr-cft {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None: ...


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 for a user's mistake, 2 for wrong usage, 130 when interrupted."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="cxr-cft")
    except CxrCftError as error:
        process = os.environ.get("RANK", "0")  # of those that train together, as launchers number them
        typer.echo(f"error{f' in process {process}' * (process != '0')}: {error}", err=True)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def main() -> None:
    """The console script."""
    sys.exit(run())
