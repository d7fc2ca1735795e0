"""Runs that each leave a fold out: their names, and their predictions joined to one file over all of training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxr_cft.artifacts import Run, read_json
from cxr_cft.data.predictions import Predictions, read_predictions, write_predictions
from cxr_cft.data.splits import FOLD, fold_of
from cxr_cft.data.studies import study_of
from cxr_cft.data.table import read_frame
from cxr_cft.errors import CxrCftError, RunError, first_few
from cxr_cft.progress import Progress
from cxr_cft.settings import Recipe

NAME = re.compile(r"(?P<base>.+)-(?P<part>\d+)of(?P<parts>\d+)")

FREE = {
    *("data.fold", "data.cache"),
    *("training.workers", "training.threads", "training.save_minutes"),
    *("training.accumulate", "training.precision", "training.channels_last", "training.compile"),
}
"""Keys in which the folds of one training may differ: the fold itself, and what suits a recipe to a machine."""

AGAIN = "the patients of the data folder have changed between their trainings; train the older ones again"


def fold_name(base: str, fold: str) -> str:
    """The name of the run that leaves a fold out: `densenet121` and 0/5 → `densenet121-0of5`."""
    part, parts = fold_of(fold)
    return f"{base}-{part}of{parts}"


def join_folds(run: Run, *, tuned: bool) -> Path | None:
    """Write BASE-Kfolds.csv beside the runs BASE-0ofK to BASE-(K-1)ofK of a recipe, once all of them are complete.

    It holds every training study once, predicted by the run that did not see its patient; with `tuned`, by the heads of
    CFT, in BASE-Kfolds.cft.csv, once all were tuned by the same settings. Returns the file; None where a run is missing
    or not that far yet, and for a run that is not named as a fold. Raises RunError if the runs differ in their recipe
    but for `data.fold`, in their data, or in the patients they were dealt.
    """
    named = NAME.fullmatch(run.name)
    if named is None:
        return None
    base, parts = named["base"], int(named["parts"])
    runs = [_complete(run.path.with_name(f"{base}-{part}of{parts}")) for part in range(parts)]
    folds = [each for each in runs if each is not None]
    if len(folds) < parts or (tuned and not _tuned_alike(folds)):
        return None
    for part, each in enumerate(folds):
        _check_fits(each, folds[0], f"{part}/{parts}")
    predictions = [read_predictions(each.predictions(FOLD, tuned=tuned), each.categories) for each in folds]
    _check_cover(folds, predictions)
    path = run.path.with_name(f"{base}-{parts}folds{'.cft' if tuned else ''}.csv")
    studies = [study for each in predictions for study in each.studies]
    write_predictions(path, studies, folds[0].categories, np.concatenate([each.scores for each in predictions]))
    return path


def join_if_complete(run: Run, *, tuned: bool, progress: Progress) -> None:
    """`join_folds`, saying where the file is. That folds do not fit each other is said too: each is good by itself."""
    try:
        joined = join_folds(run, tuned=tuned)
    except CxrCftError as error:
        progress.note(f"the predictions of the folds are not joined: {error}")
    else:
        if joined:
            progress.note(f"{joined}: every training study, predicted by the fold that did not see it")


def _complete(path: Path) -> Run | None:
    manifest = path / "run.json"
    return Run(path, read_json(manifest)) if manifest.exists() else None


def _tuned_alike(runs: Sequence[Run]) -> bool:
    """Whether all runs are tuned by the same settings; while they are tuned anew, one after the other, they are not."""
    settings = []
    for run in runs:
        try:
            report = run.tuned()
        except RunError:  # another process is between its heads and the report that vouches for them
            return False
        if report is None:
            return False
        settings.append({key: report.get(key) for key in ("methods", "metric", "seed", "options")})
    return all(each == settings[0] for each in settings)


def _check_fits(run: Run, first: Run, fold: str) -> None:
    recipe, expected = Recipe.model_validate(run.info["recipe"]), Recipe.model_validate(first.info["recipe"])
    held_out = recipe.data.fold
    if not held_out or fold_of(held_out) != fold_of(fold):
        raise RunError(
            f"run {run.name} left out data.fold = {held_out or 'none'}, not {fold} as its name says; train it again"
        )
    differing = _differing(recipe.model_dump(), expected.model_dump())
    differing += ["the CSVs"] * (run.info["data"]["fingerprint"] != first.info["data"]["fingerprint"])
    if differing:
        raise RunError(
            f"runs {first.name} and {run.name} are no folds of one training, they differ in {first_few(differing)}; "
            "train one of them again"
        )


def _differing(recipe: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The keys in which two trainings differ; [cft] comes after training, and cft.json says what it really was."""
    found = ["seed"] * (recipe["seed"] != other["seed"])
    for section in set(recipe) - {"seed", "cft"}:
        found += [f"{section}.{key}" for key, value in recipe[section].items() if value != other[section][key]]
    return sorted(set(found) - FREE)


def _check_cover(runs: Sequence[Run], predictions: Sequence[Predictions]) -> None:
    """Raise RunError unless each study that one of the runs learnt from is predicted once."""
    seen: dict[str, str] = {}
    for run, each in zip(runs, predictions, strict=True):
        for study in each.studies:
            if study in seen:
                raise RunError(f"runs {seen[study]} and {run.name} both left out study {study}; {AGAIN}")
            seen[study] = run.name
    for run in runs:
        split = read_frame(run.path / "split.csv")
        learnt = {study_of(path) for path in split["Path"][split["split"] == "train"]}
        if missing := sorted(learnt - set(seen)):
            raise RunError(f"no fold left out {len(missing)} studies of run {run.name}: {first_few(missing)}; {AGAIN}")
