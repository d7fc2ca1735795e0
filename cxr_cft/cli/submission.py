"""`cxr-cft package-submission` and `verify-submission`: the bundle and its rehearsal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr_cft.cli import console
from cxr_cft.cli.options import DEFAULT_ENSEMBLE, DEFAULT_WEIGHTS, ImageRoot, Weights


def package_submission(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.json]", help="What `cxr-cft ensemble` wrote.", show_default="DIR/ensemble.json"),
    ] = None,
    name: Annotated[str, typer.Option(help="The bundle's name.")] = "submission",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the bundle goes.")] = Path("submissions"),
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="ROOT", help="The runs' data folder, if it has moved."),
    ] = None,
    weights: Weights = DEFAULT_WEIGHTS,
) -> None:
    """Pack an ensemble's runs into a folder and a zip whose predict.py turns INPUT.csv into OUTPUT.csv offline."""
    from cxr_cft.ensemble.file import read_ensemble
    from cxr_cft.submission.bundle import package

    path = file or weights / DEFAULT_ENSEMBLE
    progress = console.TerminalProgress()
    bundle = package(read_ensemble(path), name, out, progress, near=path.parent, root=data)
    for model, worst in bundle.parity.items():
        console.say(f"{model}: ONNX within {worst:.1e} of torch's probabilities")
    console.say(f"wrote {bundle.folder}/ and {bundle.archive}")


def verify_submission(
    bundle: Annotated[Path, typer.Argument(metavar="submissions/NAME", help="A packaged submission.")],
    csv: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Views to predict.", show_default="the --labels CSV, else made radiographs"),
    ] = None,
    labels: Annotated[Path | None, typer.Option(metavar="CSV", help="Labels to score the output with.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Where the output goes.", show_default="beside the bundle")
    ] = None,
    image_root: ImageRoot = None,
) -> None:
    """Run a bundle as the competition's server does: read-only copy, no network, checked output."""
    from cxr_cft.cli.score import print_score
    from cxr_cft.evaluation.score import score_file
    from cxr_cft.submission.verify import rehearse

    source = csv or labels
    output = out or bundle.parent / f"{bundle.name}-{source.stem if source else 'made'}.csv"
    rehearsal = rehearse(bundle, source, output, console.TerminalProgress(), image_root=image_root)
    network = "without a network" if rehearsal.offline else "the network could not be cut on this system"
    told = f"{rehearsal.studies} studies in {rehearsal.seconds:.1f} s, {network}; {output}"
    if rehearsal.missing:
        lacking = ", ".join(rehearsal.missing)
        console.say(f"complete, but the CheXpert competition would reject it for want of {lacking}: {told}")
    else:
        console.say(f"PASS: {told}")
    if rehearsal.unreadable:
        console.say(f"! {rehearsal.unreadable} views could not be read; they are named above")
    if labels is not None:
        print_score(score_file(output, labels), output.name)
