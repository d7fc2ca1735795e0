"""The ensemble command's work: members and labels from where they lie, then the search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr_cft.artifacts import Run, find_runs
from cxr_cft.data.labels import CATEGORIES
from cxr_cft.data.table import read_frame
from cxr_cft.data.truth import StudyLabels, read_labels
from cxr_cft.ensemble.file import Ensemble, write_ensemble
from cxr_cft.ensemble.members import Member, copies, gather, shared_studies
from cxr_cft.ensemble.weights import search_weights
from cxr_cft.errors import PredictionsError, first_few
from cxr_cft.progress import SILENT, Progress


def search_ensemble(
    names: Sequence[str],
    weights: Path,
    csvs: Sequence[Path],
    labels: Path | None,
    out: Path | None = None,
    *,
    seed: int = 0,
    scale: str | None = None,
    aggregation: str | None = None,
    missing: Literal["error", "drop"] = "error",
    progress: Progress = SILENT,
) -> Ensemble:
    """Search weights over the named runs under `weights` and `csvs`; without names, over every complete run.

    Foreign CSVs alone are an ensemble too: then no run is looked for. `labels` is by default valid.csv of the runs'
    data, `scale` and `aggregation` what proves best; `missing` says what to do with studies that a member lacks. The
    ensemble is written to `out`, if that is given, and a search that was interrupted goes on from what lies beside it.
    Raises RunError, PredictionsError or DataError for what does not fit.
    """
    runs = find_runs(names, weights) if names or not csvs else []
    truth = read_labels(labels or _labels_of(runs), _categories(runs, csvs), partial=True)
    members = gather(runs, csvs, truth.categories, progress=progress)
    studies, known = list(truth.studies), truth.labels
    if missing == "drop":
        studies, known = _without_missing(members, truth, progress)
    _note_unscored(truth.categories, known, progress)
    _note_copies(members, studies, truth.categories, progress)
    kept = out.with_name(f".{out.name}.search") if out else None
    found = search_weights(
        members,
        studies,
        known,
        truth.categories,
        seed=seed,
        scale=scale,
        aggregation=aggregation,
        kept=kept,
        progress=progress,
    )
    if out and kept:
        write_ensemble(out, found)
        kept.unlink(missing_ok=True)
    return found


def _labels_of(runs: Sequence[Run]) -> Path:
    sources = {Path(run.info["data"]["root"]) / "valid.csv" for run in runs}
    if len(sources) != 1:
        what = "the runs were trained on different data" if sources else "there is no run to take them from"
        raise PredictionsError(f"{what}: say with --labels which studies are predicted")
    return sources.pop()


def _categories(runs: Sequence[Run], csvs: Sequence[Path]) -> list[str]:
    """The categories that a member predicts: the first run's in its order, then the others', CSVs' in CheXpert's."""
    columns = [list(run.categories) for run in runs]
    columns += [[name for name in CATEGORIES if name in read_frame(csv).columns] for csv in csvs]
    return list(dict.fromkeys(name for each in columns for name in each)) or list(CATEGORIES)


def _without_missing(
    members: Sequence[Member], truth: StudyLabels, progress: Progress
) -> tuple[list[str], NDArray[np.float64]]:
    """The labelled studies that every member has, and their labels."""
    studies = shared_studies(members, truth.studies)
    dropped = len(truth.studies) - len(studies)
    if dropped:
        progress.note(f"{dropped} of {len(truth.studies)} studies are left out, which some members lack")
    position = {study: row for row, study in enumerate(truth.studies)}
    return studies, truth.labels[[position[study] for study in studies]]


def _note_unscored(categories: Sequence[str], known: NDArray[np.float64], progress: Progress) -> None:
    """Say which categories are blended though nothing can be told of their ranks."""
    for what, label in (("positive", 1), ("negative", 0)):
        lacking = [category for c, category in enumerate(categories) if not (known[:, c] == label).any()]
        if lacking:
            progress.note(f"no labelled study is {what} for {first_few(lacking, 14)}: blended, but not scored")


def _note_copies(
    members: Sequence[Member], studies: Sequence[str], categories: Sequence[str], progress: Progress
) -> None:
    for group in copies(members, studies, categories):
        progress.note(
            f"copies to the last digit: {', '.join(group)}; equal weights count them all, leave out all but one"
        )
