"""What the package itself predicts for a bundle's studies: by the runs it was made from, on the way of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_cft.artifacts import Run, open_run
from cxr_cft.data.odds import expit
from cxr_cft.data.table import Table
from cxr_cft.ensemble.file import read_ensemble
from cxr_cft.ensemble.members import run_fingerprint
from cxr_cft.errors import CxrCftError, RunError
from cxr_cft.progress import SILENT, Progress
from cxr_cft.submission.predict import blend, drop_laterals
from cxr_cft.submission.rehearsal.asked import Asked
from cxr_cft.submission.rehearsal.rules import read_scores
from cxr_cft.training.inference import predict_logits

TOLERANCE = 1e-4  # of a probability: other batches, ONNX's and torch's rounding, stretched by the scales (assumed)
PARITY = 10.0  # or so many times what ONNX and torch differed by when the bundle was made, if that is more (assumed)
ENSEMBLE = "ensemble.json"  # what `cxr-cft ensemble` writes into the folder of runs unless it is told otherwise
EXACT = "fp32"  # the precision that is held to it


def find_runs(specification: Mapping[str, Any], weights: Path) -> dict[str, Run]:
    """The run of each member, by the member's name, found under `weights` as it was when the bundle was made.

    Raises RunError if one is not there, has changed, or the bundle does not say which it was.
    """
    opened: dict[str, Run] = {}
    runs = {}
    for member in specification["members"]:
        name = member.get("run")
        if name is None:
            raise RunError("the bundle does not say which runs it was made from; package it again")
        if name not in opened:
            if not (weights / name / "run.json").is_file():
                raise RunError(f"run {name} is not under {weights}; say where it is with --weights")
            opened[name] = open_run(weights / name)
        run, tuned = opened[name], member["head"] == "tuned"
        if (tuned and run.tuned() is None) or run_fingerprint(run, tuned=tuned) != member.get("fingerprint"):
            raise RunError(f"run {run.path} has changed since the bundle was made; package it again")
        runs[member["name"]] = run
    return runs


def has_other_weights(specification: Mapping[str, Any], weights: Path) -> bool:
    """Whether the ensemble file under `weights` is of the same members and gives them other weights than the bundle.

    Of a bundle from another file, or of joined folds, which are packed as their runs, nothing is known.
    """
    try:
        found = read_ensemble(weights / ENSEMBLE)
    except CxrCftError:
        return False
    packed = {member["name"]: member["weights"] for member in specification["members"]}
    known = found.candidate.weights
    return set(packed) <= set(known) and any(packed[name] != known[name] for name in packed)


def largest_difference(
    specification: Mapping[str, Any], runs: Mapping[str, Run], asked: Asked, output: Path, progress: Progress = SILENT
) -> tuple[float, str]:
    """How far a bundle's output is from what the package predicts for the same views: at most, and where.

    The runs predict the views' files as `cxr-cft predict` does; joined and blended as submission.json says.
    """
    studies, expected = package_scores(specification, runs, asked, progress)
    found = read_scores(output, studies, specification["output"])
    off = np.abs(found - expected)
    row, column = np.unravel_index(int(off.argmax()), off.shape)
    category = specification["output"][column]
    where = f"{studies[row]}, {category}: {found[row, column]:.9g}, by the package {expected[row, column]:.9g}"
    return float(off[row, column]), where


def allowed_difference(specification: Mapping[str, Any]) -> float | None:
    """What `largest_difference` may be; None for a bundle of another precision, of which it is only told."""
    if specification.get("precision", EXACT) != EXACT:
        return None
    return max([TOLERANCE, *(PARITY * float(each) for each in specification.get("parity", {}).values())])


def package_scores(
    specification: Mapping[str, Any], runs: Mapping[str, Run], asked: Asked, progress: Progress = SILENT
) -> tuple[list[str], NDArray[np.float64]]:
    """Studies and their probabilities (S, C) of the output's categories, of those with a view that can be read."""
    views = [(view, word) for view, word in zip(asked.views, asked.words, strict=True) if view in asked.files]
    paths, words = [view for view, _ in views], [word for _, word in views]
    files = [asked.files[view] for view in paths]
    members, output = specification["members"], specification["output"]
    scores = np.full((len(members), len(paths), len(output)), np.nan)
    known: dict[tuple[Path, bool], NDArray[np.float64]] = {}
    for m, member in enumerate(members):
        run, tuned = runs[member["name"]], member["head"] == "tuned"
        if (run.path, tuned) not in known:
            table = _table(asked.csv, files, words, run.categories)
            known[run.path, tuned] = expit(_logits(run, table, progress, tuned))
        for c, category in enumerate(output):
            if category in member["categories"]:
                scores[m, :, c] = known[run.path, tuned][:, run.categories.index(category)]
        if member.get("views", "all") == "frontal":
            drop_laterals(scores[m], paths, words)
    studies, blended = blend(dict(specification), paths, scores)
    prior = np.array([specification["prior"][category] for category in output])
    return studies, np.where(np.isnan(blended), prior, blended)


def _logits(run: Run, table: Table, progress: Progress, tuned: bool) -> NDArray[np.float64]:
    """On the CPU: a GPU rounds products to fewer digits (TF32) than what is allowed here."""
    return predict_logits(run, table, progress, tuned=tuned, device=torch.device("cpu")).astype(np.float64)


def _table(source: Path, files: Iterable[Path], words: Iterable[str], categories: Iterable[str]) -> Table:
    """The files as a table's rows, wherever they lie."""
    paths, columns = tuple(map(str, files)), tuple(categories)
    return Table(source, paths, tuple(words), columns, np.full((len(paths), len(columns)), np.nan), Path("/"), 0)
