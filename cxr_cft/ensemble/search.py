"""The ensemble command's work: members and labels from where they lie, then the search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxr_cft.artifacts import Run, find_runs
from cxr_cft.data.labels import CATEGORIES, known_labels
from cxr_cft.data.table import read_frame, read_table
from cxr_cft.ensemble.file import Ensemble
from cxr_cft.ensemble.members import gather
from cxr_cft.ensemble.weights import search_weights
from cxr_cft.errors import PredictionsError, first_few
from cxr_cft.progress import SILENT, Progress


def search_ensemble(
    names: Sequence[str],
    weights: Path,
    csvs: Sequence[Path],
    labels: Path | None,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Ensemble:
    """Search weights over the named runs under `weights` and `csvs`; without names, over every complete run.

    Foreign CSVs alone are an ensemble too: then no run is looked for. `labels` is by default valid.csv of the runs'
    data. Raises RunError, PredictionsError or DataError for what does not fit.
    """
    runs = find_runs(names, weights) if names or not csvs else []
    source = labels or _labels_of(runs)
    categories = _categories(runs, csvs)
    labelled = [category for category in categories if category in read_frame(source).columns]
    if not labelled:
        raise PredictionsError(f"{source} has none of the categories that the members predict: {first_few(categories)}")
    table = read_table(source, source.resolve().parent, labelled)
    studies, raw = table.study_labels()
    members = gather(runs, csvs, table.categories)
    return search_weights(members, studies, known_labels(raw), table.categories, seed=seed, progress=progress)


def _labels_of(runs: Sequence[Run]) -> Path:
    sources = {Path(run.info["data"]["root"]) / "valid.csv" for run in runs}
    if len(sources) != 1:
        what = "the runs were trained on different data" if sources else "there is no run to take them from"
        raise PredictionsError(f"{what}: say with --labels which studies are predicted")
    return sources.pop()


def _categories(runs: Sequence[Run], csvs: Sequence[Path]) -> list[str]:
    """The categories that every member predicts, in the first member's order (CheXpert's for a CSV)."""
    columns = [list(run.categories) for run in runs]
    columns += [[name for name in CATEGORIES if name in read_frame(csv).columns] for csv in csvs]
    shared = [name for name in columns[0] if all(name in each for each in columns[1:])]
    if not shared:
        raise PredictionsError("the members have no category in common")
    return shared
