"""A bundle's rehearsal: inspected, run as the server runs it on a made hidden set and on a CSV, its output checked."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cxr_cft.artifacts import Run, replacing
from cxr_cft.data.table import read_frame
from cxr_cft.errors import RunError, SubmissionError, first_few
from cxr_cft.progress import SILENT, Progress
from cxr_cft.submission.rehearsal.asked import Asked, alone, first_views, read_asked, without
from cxr_cft.submission.rehearsal.hidden import Sizes, make_hidden, make_plain
from cxr_cft.submission.rehearsal.inspection import AGAIN, inspect_bundle
from cxr_cft.submission.rehearsal.reference import (
    ENSEMBLE,
    allowed_difference,
    find_runs,
    has_other_weights,
    largest_difference,
)
from cxr_cft.submission.rehearsal.rules import check_answer, check_digits, read_scores
from cxr_cft.submission.rehearsal.rules import check_output as check_output
from cxr_cft.submission.rehearsal.sandbox import Ran, Sandbox, sandbox, told_isolation, usable_cores
from cxr_cft.submission.rehearsal.verdict import Pace, Verdict
from cxr_cft.submission.rehearsal.verdict import Rehearsal as Rehearsal
from cxr_cft.submission.telling import printable

TIMED_VIEWS = 40  # in full resolution, to measure a rate by; more than two batches of the script (assumed)
LONG = 60.0  # seconds from which on a CSV's first rows are enough for running them twice (assumed)
FIRST_VIEWS = 200  # those: some four fifths of CheXpert's validation set
SUMMARY = re.compile(r"wrote (\d+) studies to .* \((\d+) of (\d+) views unreadable, (\d+) studies by the prior\)")


@dataclass(frozen=True)
class _Stage:
    """What all steps of a rehearsal share; `runs` is a line that says why not where there are none to compare with."""

    bundle: Path
    specification: dict[str, Any]
    box: Sandbox
    runs: Mapping[str, Run] | str
    progress: Progress


def verify(
    bundle: Path,
    csv: Path | None,
    output: Path,
    progress: Progress = SILENT,
    *,
    image_root: Path | None = None,
    weights: Path | None = None,
    sizes: Sizes | None = None,
) -> Verdict:
    """Inspect a bundle as a stranger's, and rehearse it on a made hidden set and, if there is one, on `csv`.

    Nothing of the bundle is run before it was found to be as packaged. `output` is what it wrote for `csv`, else for
    the made set, and is written only if all passes. Its numbers are held against those of the runs under `weights`.
    Raises SubmissionError, one line that says what to mend.
    """
    _check_paths(csv, output)
    if bundle.resolve() in output.resolve().parents:
        raise SubmissionError(f"the output cannot be written into the bundle, as {output}; give another --out")
    specification, names = inspect_bundle(bundle)
    progress.note(f"{len(names)} files are as packaged, and nothing else is there")
    with sandbox(bundle, names) as box:
        progress.note(told_isolation(box))
        stage = _Stage(bundle, specification, box, _runs(specification, weights), progress)
        asked = None if csv is None else read_asked(csv, image_root)
        made = _rehearse_made(stage, sizes or Sizes())
        if weights is not None and has_other_weights(specification, weights):
            made.findings.append(
                f"its weights are not those in use in {weights / ENSEMBLE}; if they should be, {AGAIN}"
            )
        pace = _measure(stage, sizes or Sizes())
        given = None if asked is None else _rehearse_given(stage, asked)
        written = given or made
        with replacing(output) as beside:
            shutil.copyfile(written.output, beside)
        written.output = output
        return Verdict(made, given, pace, told_isolation(box))


def rehearse(
    bundle: Path,
    csv: Path,
    output: Path,
    progress: Progress = SILENT,
    *,
    image_root: Path | None = None,
    weights: Path | None = None,
) -> Rehearsal:
    """`verify` without the made hidden set: the bundle inspected, and run on `csv` alone."""
    _check_paths(csv, output)
    specification, names = inspect_bundle(bundle)
    with sandbox(bundle, names) as box:
        stage = _Stage(bundle, specification, box, _runs(specification, weights), progress)
        found = _rehearse_given(stage, read_asked(csv, image_root))
        with replacing(output) as beside:
            shutil.copyfile(found.output, beside)
        found.output = output
        return found


def _check_paths(csv: Path | None, output: Path) -> None:
    if output.is_dir() or (csv is not None and output.resolve() == csv.resolve()):
        raise SubmissionError(f"the output cannot be written to {output}; give another --out")


def _runs(specification: Mapping[str, Any], weights: Path | None) -> Mapping[str, Run] | str:
    if weights is None:
        return "no folder of runs was given"
    try:
        return find_runs(specification, weights)
    except RunError as error:
        return str(error)


# ---- the made hidden set


def _rehearse_made(stage: _Stage, sizes: Sizes) -> Rehearsal:
    """Run the made set, twice; every study, view and fault of it is known."""
    stage.progress.note("making a hidden set")
    folder = stage.box.folder / "hidden"
    folder.mkdir()
    asked = make_hidden(folder, sizes)
    stage.progress.note(
        f"running it on {len(asked.studies)} studies, {len(asked.views)} views of every kind, of which "
        f"{len(asked.unreadable)} cannot be read"
    )
    ran = stage.box.run(asked.csv, asked.shown)
    found = _checked(stage, asked, ran, "the made hidden set")
    _check_left_out(stage, asked, ran)
    _check_prior(stage, asked, ran)
    _check_again(stage, asked, ran, "the made hidden set")
    _compare(stage, asked, found, "the made hidden set")
    return found


def _check_left_out(stage: _Stage, asked: Asked, ran: Ran) -> None:
    """The views that were left out are those that cannot be read, each named, and the studies without one too."""
    told = {line.removeprefix("left out ") for line in ran.told if line.startswith("left out ")}
    for view in asked.unreadable:
        named = {line for line in told if line.startswith(f"{view}: ")}
        if not named:
            raise SubmissionError(f"{stage.bundle}: predict.py did not say that it left out {view}; {AGAIN}")
        told -= named
    if told:
        raise SubmissionError(f"{stage.bundle}: predict.py could not read what can be read: {min(told)}; {AGAIN}")
    for study in asked.lost:
        if not any(line.startswith(f"no readable view of {study}: ") for line in ran.told):
            raise SubmissionError(f"{stage.bundle}: predict.py did not say that it saw no view of {study}; {AGAIN}")
    counted = _counts(stage, ran)[1:]
    if counted != (len(asked.unreadable), len(asked.views), len(asked.lost)):
        raise SubmissionError(
            f"{stage.bundle}: predict.py counted {counted[0]} of {counted[1]} views unreadable and {counted[2]} studies"
            f" by the prior, where it is {len(asked.unreadable)} of {len(asked.views)} and {len(asked.lost)}; {AGAIN}"
        )


def _check_prior(stage: _Stage, asked: Asked, ran: Ran) -> None:
    output, prior = stage.specification["output"], stage.specification["prior"]
    for study, row in zip(asked.lost, read_scores(ran.output, asked.lost, output), strict=True):
        for category, score in zip(output, row.tolist(), strict=True):
            if score != prior[category]:
                raise SubmissionError(
                    f"{stage.bundle}: {study} has no readable view, and {score!r} for {category} where the stored prior"
                    f" is {prior[category]!r}; {AGAIN}"
                )


def _measure(stage: _Stage, sizes: Sizes) -> Pace:
    """Run one view and many, in full resolution and with leading folders that are to be dropped."""
    stage.progress.note(f"measuring its speed on {TIMED_VIEWS} views in full resolution")
    seconds = []
    for views in (1, TIMED_VIEWS):
        asked = make_plain(stage.box.folder / f"plain {views}", views, sizes)
        ran = stage.box.run(asked.csv, asked.shown)
        _checked(stage, asked, ran, "full-resolution views whose leading folders are gone")
        if _counts(stage, ran)[1]:
            lost = next((line for line in ran.told if line.startswith("left out ")), "it does not say which")
            raise SubmissionError(
                f"{stage.bundle}: predict.py did not find images by dropping their paths' leading folders: {lost}; "
                f"{AGAIN}"
            )
        seconds.append(ran.seconds)
    each = max(seconds[1] - seconds[0], 1e-3) / (TIMED_VIEWS - 1)
    return Pace(max(seconds[0] - each, 0.0), 1 / each, usable_cores())


# ---- a user's CSV


def _rehearse_given(stage: _Stage, asked: Asked) -> Rehearsal:
    name = asked.csv.name
    stage.progress.note(f"running it on {name}: {len(asked.studies)} studies, {len(asked.views)} views")
    ran = stage.box.run(asked.csv, asked.shown, stage.progress)
    found = _checked(stage, asked, ran, name)
    if found.unreadable == found.views:
        raise SubmissionError(
            f"not one of the {found.views} views of {asked.csv} could be read, so that every study has the same "
            "average; give --image-root"
        )
    gone = _left_out(asked, ran)
    asked = without(asked, gone)
    if found.unreadable:
        found.findings.append(f"{name}: {found.unreadable} of {found.views} views could not be read: {first_few(gone)}")
    part, whole = first_views(asked, FIRST_VIEWS), name
    if len(part.views) < len(asked.views):
        whole = f"the first {len(part.views)} of {len(asked.views)} views of {name}"
    if ran.seconds > LONG and whole != name:
        short = alone(part, stage.box.folder / "first.csv")
        stage.progress.note(f"running {whole}")
        _check_again(stage, short, stage.box.run(short.csv), whole)
    else:
        _check_again(stage, asked, ran, name)
    _compare(stage, part, found, whole)
    return found


def _left_out(asked: Asked, ran: Ran) -> list[str]:
    """The views that the script said it left out: `left out VIEW: why`, where either part may hold a colon."""
    told = [line.removeprefix("left out ") for line in ran.told if line.startswith("left out ")]
    named = {line[: found.start()] for line in told for found in re.finditer(": ", line)}
    return [view for view in asked.views if printable(view) in named]


# ---- what every output is held to


def _checked(stage: _Stage, asked: Asked, ran: Ran, name: str) -> Rehearsal:
    said = f"{stage.bundle}: the output for {name}"
    missing = check_answer(ran.output, asked.studies, said)
    columns = list(read_frame(ran.output).columns)[1:]
    if columns != stage.specification["output"]:
        raise SubmissionError(f"{said} has the columns {', '.join(columns)}, which are not submission.json's; {AGAIN}")
    check_digits(ran.output, stage.specification["prior"], said)
    studies, unreadable, views, unseen = _counts(stage, ran)
    if (studies, views) != (len(asked.studies), len(asked.views)):
        raise SubmissionError(
            f"{said}: it counted {studies} studies and {views} views, where there are {len(asked.studies)} and "
            f"{len(asked.views)}; {AGAIN}"
        )
    findings = [f"predict.py left files behind: {first_few(ran.left)}"] if ran.left else []
    return Rehearsal(ran.output, studies, views, ran.seconds, unreadable, unseen, missing, name, findings=findings)


def _counts(stage: _Stage, ran: Ran) -> tuple[int, int, int, int]:
    """Studies, unreadable views, views, and studies by the prior, as the script's summary has them."""
    summary = next((found for line in reversed(ran.told) if (found := SUMMARY.search(line))), None)
    if summary is None:
        raise SubmissionError(f"{stage.bundle}: predict.py does not count at its end what it could not read; {AGAIN}")
    studies, unreadable, views, unseen = map(int, summary.groups())
    return studies, unreadable, views, unseen


def _check_again(stage: _Stage, asked: Asked, ran: Ran, name: str) -> None:
    """Run it once more; the bytes must be the same."""
    stage.progress.note(f"running {name} again")
    again = stage.box.run(asked.csv, asked.shown)
    first, second = ran.output.read_bytes().splitlines(), again.output.read_bytes().splitlines()
    if first != second:
        differing = sum(one != other for one, other in zip_longest(first, second))
        raise SubmissionError(
            f"{stage.bundle}: predict.py gave {differing} other rows when {name} was run again; what the server scores "
            f"must not depend on chance: {AGAIN}"
        )


def _compare(stage: _Stage, asked: Asked, found: Rehearsal, name: str) -> None:
    """Hold the output against the package's own predictions, where the runs are there."""
    if isinstance(stage.runs, str):
        found.findings.append(f"{name} was not compared with `cxr-cft predict`: {stage.runs}")
        return
    stage.progress.note(f"predicting {name} with the package")
    off, where = largest_difference(stage.specification, stage.runs, asked, found.output, stage.progress)
    found.difference, found.allowed = off, allowed_difference(stage.specification)
    if found.allowed is not None and not off <= found.allowed:
        raise SubmissionError(
            f"{stage.bundle}: on {name} it is {off:.1e} from what the package predicts, at most {found.allowed:.1e} is "
            f"allowed ({where}); {AGAIN}"
        )
