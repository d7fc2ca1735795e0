"""Who takes part in an ensemble: runs, by their trained and their tuned heads, joined folds, any prediction CSV."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr_cft.artifacts import Run, fingerprint, open_run
from cxr_cft.data.labels import CATEGORIES
from cxr_cft.data.predictions import Predictions, Rows, read_rows
from cxr_cft.data.splits import FOLD
from cxr_cft.data.studies import AGGREGATION
from cxr_cft.data.table import SPLITS
from cxr_cft.errors import PredictionsError, RunError, did_you_mean, first_few
from cxr_cft.progress import SILENT, Progress
from cxr_cft.training.folds import fold_name

TUNED = ".cft"  # what a tuned head's member is called beside its run

FILE = re.compile(rf"(?:{'|'.join((*SPLITS, FOLD))})(?:\.views)?(?P<tuned>\.cft)?\.csv")
"""What `Run.predictions` calls its files."""

JOINED = re.compile(r"(?P<base>.+)-(?P<parts>[2-9]|[1-9]\d+)folds(?P<tuned>\.cft)?\.csv")
"""What `training.folds.join_folds` calls its files."""

Kind = Literal["run", "folds", "csv"]
"""A run, a CSV of joined folds beside its complete runs, or any other CSV."""


LARGEST = 1e30  # a score's: float32, in which blends are compared, ends at 3e38


@dataclass(frozen=True, eq=False)
class Member:
    """One column of the ensemble. `fingerprint` is of the run's weights and heads, or of the CSV."""

    name: str
    kind: Kind
    source: Path
    tuned: bool
    fingerprint: str
    rows: Rows

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Those that it predicts."""
        predicted = np.asarray(~np.isnan(self.rows.scores).all(axis=0))
        return tuple(category for c, category in enumerate(self.rows.categories) if predicted[c])


@dataclass(frozen=True)
class _Source:
    """Where a member's predictions lie, and what stands for it: the run's folder and head, or the CSV."""

    name: str
    kind: Kind
    path: Path
    run: Run | None
    tuned: bool

    @property
    def identity(self) -> tuple[Path, bool]:
        return (self.run.path if self.run else self.path).resolve(), self.tuned


def run_fingerprint(run: Run, *, tuned: bool) -> str:
    """The sha256 that stands for a run's model: of its weights and, where CFT tuned them, its heads."""
    return fingerprint(run.model_file, run.heads_file) if tuned else fingerprint(run.model_file)


def name_of(csv: Path) -> str:
    """What a CSV's member is called: NAME or NAME.cft for predictions in the folder of run NAME, else by its stem."""
    of_run = run_of(csv)
    return run_name(*of_run) if of_run else csv.stem


def gather(
    runs: Sequence[Run],
    csvs: Sequence[Path],
    categories: Sequence[str],
    split: str = "valid",
    progress: Progress = SILENT,
    tuned_only: Collection[Path] = (),
) -> list[Member]:
    """Runs and CSVs as members with their predictions of a split, nan for those of `categories` that one lacks.

    A run takes part by its trained head, unless its folder is in `tuned_only`, and, where CFT tuned it, by the
    tuned one too, of single views where it has them; a CSV in a run's folder is that run's, and one of joined folds
    is theirs if all of them lie complete beside it. A second member of a name becomes NAME-2, which is noted, as is
    a category that a CSV seems to have under another name. Raises RunError for a run without predictions of the
    split, and PredictionsError for a CSV that cannot be used, a member given twice and one that has none of
    `categories`.
    """
    sources = [source for run in runs for source in _heads_of(run, split, run.path.resolve() in tuned_only)]
    sources += [_source_of(csv) for csv in csvs]
    _check_once(sources)
    members = []
    for source, name in zip(sources, unique_names([source.name for source in sources]), strict=True):
        if name != source.name:
            progress.note(f"{source.path} takes part as {name}: another member is called {source.name}")
        rows = read_rows(source.path, categories, partial=True)
        if not rows.names:
            raise PredictionsError(f"{source.path} has no rows")
        if np.nanmax(np.abs(rows.scores)) > LARGEST:
            raise PredictionsError(f"{source.path} holds scores beyond {LARGEST:g}, which cannot be averaged")
        run = source.run
        stands_for = run_fingerprint(run, tuned=source.tuned) if run else fingerprint(source.path)
        members.append(Member(name, source.kind, run.path if run else source.path, source.tuned, stands_for, rows))
        _note_near_misses(members[-1], progress)
    return members


def aligned(
    members: Sequence[Member], studies: Sequence[str], categories: Sequence[str], how: str
) -> NDArray[np.float64]:
    """The members' scores (M, S, C), views joined by `how`; nan where a member lacks a category.

    Raises PredictionsError if a member lacks studies.
    """
    scores = np.full((len(members), len(studies), len(categories)), np.nan)
    for m, member in enumerate(members):
        found = member.rows.joined(how)
        rows = _positions(member, found, studies)
        for c, category in enumerate(categories):
            if category in found.categories:
                scores[m, :, c] = found.scores[rows, found.categories.index(category)]
    return scores


def shared_studies(members: Sequence[Member], studies: Sequence[str]) -> list[str]:
    """Those of `studies` that every member has, in their order.

    Raises PredictionsError if one has none of them, or if none is left.
    """
    shared = set(studies)
    for member in members:
        if studies and shared.isdisjoint(member.rows.studies):
            if set(studies).isdisjoint(member.rows.studies):
                raise _other_studies(member, studies)
            raise PredictionsError(
                f"no study is left that every member has: {member.name} has none of those that the members before it "
                "share; leave it out"
            )
        shared.intersection_update(member.rows.studies)
    return [study for study in studies if study in shared]


def copies(members: Sequence[Member], studies: Sequence[str], categories: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of two or more members, by name, that predict the same categories with the same scores to the last digit.

    Compared are `studies` and `categories`, with views joined by the maximum. Raises PredictionsError if a member lacks
    studies.
    """
    groups: dict[bytes, list[str]] = {}
    for member in members:
        scores = aligned([member], studies, categories, AGGREGATION) + 0.0  # which makes -0.0 the 0.0 that it equals
        groups.setdefault(hashlib.sha256(scores.tobytes()).digest(), []).append(member.name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def run_of(csv: Path) -> tuple[Path, bool] | None:
    """The run's folder, and whether by the tuned head, if a CSV is one of a run's own prediction files."""
    folder = csv.parent.resolve()  # but not the file, which may be a link into a store of large files
    parsed = FILE.fullmatch(csv.name)
    if parsed is None or folder.name != "predictions" or not (folder.parent / "run.json").is_file():
        return None
    return folder.parent, parsed["tuned"] is not None


def folds_of(csv: Path) -> tuple[list[Path], bool] | None:
    """By a CSV's name BASE-Kfolds.csv, the folders of its K runs beside it, and whether by their tuned heads (.cft).

    None for any other name. A link is followed: the file's own name and place count. Whether the runs are there is not
    looked at.
    """
    path = csv.resolve()
    parsed = JOINED.fullmatch(path.name)
    if parsed is None:
        return None
    base, parts = parsed["base"], int(parsed["parts"])
    folders = [path.with_name(fold_name(base, f"{part}/{parts}")) for part in range(parts)]
    return folders, parsed["tuned"] is not None


def unique_names(names: Sequence[str]) -> list[str]:
    """Each name, or NAME-2, NAME-3, … where an earlier one has it; no member loses its own name to such a number."""
    taken, found = set(names), list[str]()
    for place, name in enumerate(names):
        if name in names[:place]:
            name = next(free for n in count(2) if (free := f"{name}-{n}") not in taken)
            taken.add(name)
        found.append(name)
    return found


def run_folder(source: Path, near: Path | None) -> Path:
    """Where a member's run lies: in the folder `near`, which may be a copy of all, else where the search saw it."""
    copied = near / source.name if near else source
    return copied if (copied / "run.json").is_file() else source


def run_name(folder: Path, tuned: bool) -> str:
    """What the member of a run's trained or tuned head is called."""
    return f"{folder.name}{TUNED}" if tuned else folder.name


def _heads_of(run: Run, split: str, tuned_only: bool) -> list[_Source]:
    """A run's trained head and, where there is one, its tuned head, by single views unless it is older than those."""
    sources = []
    heads = (True,) if tuned_only else (False, True) if run.tuned() is not None else (False,)
    if tuned_only and run.tuned() is None:
        raise RunError(f"run {run.name} has no tuned heads; run `cxr-cft cft {run.name}` first")
    for tuned in heads:
        views, path = (run.predictions(split, tuned=tuned, views=single) for single in (True, False))
        if not path.exists():
            raise RunError(f"run {run.name} has no predictions of {split} ({path}); its data folder has no {split}.csv")
        sources.append(_Source(run_name(run.path, tuned), "run", views if views.exists() else path, run, tuned))
    return sources


def _source_of(csv: Path) -> _Source:
    of_run = run_of(csv)
    if of_run is None or not csv.exists():  # reading it says so
        folds = folds_of(csv)
        if folds and all((folder / "run.json").is_file() for folder in folds[0]):
            return _Source(csv.stem, "folds", csv, None, folds[1])
        return _Source(csv.stem, "csv", csv, None, False)
    folder, tuned = of_run
    run = open_run(folder)
    if tuned and run.tuned() is None:
        raise PredictionsError(f"{csv} is not by the weights that run {run.name} has; run `cxr-cft cft {folder}` again")
    return _Source(run_name(folder, tuned), "run", csv, run, tuned)


def _check_once(sources: Sequence[_Source]) -> None:
    """Raise PredictionsError if a file, or a run's head, is given twice."""
    seen: dict[object, _Source] = {}
    for source in sources:
        for key in (source.identity, source.path.resolve()):
            if key in seen:
                other = "" if seen[key].path == source.path else f", as {seen[key].path} too"
                raise PredictionsError(f"member {source.name} is given twice: {source.path}{other}; give it once")
        seen.update(dict.fromkeys((source.identity, source.path.resolve()), source))


def _note_near_misses(member: Member, progress: Progress) -> None:
    """Say which categories a CSV may have under another name, since it takes part without them."""
    if member.kind != "csv":
        return
    unknown = [column for column in member.rows.others if column not in CATEGORIES]
    for category in (each for each in member.rows.categories if each not in member.categories):
        hint = did_you_mean(category, unknown)
        if hint:
            progress.note(f"{member.rows.source} takes part without {category}: it has no such column{hint}")


def _positions(member: Member, found: Predictions, studies: Sequence[str]) -> NDArray[np.intp]:
    """The rows in which `found` has the studies."""
    position = {study: row for row, study in enumerate(found.studies)}
    missing = [study for study in studies if study not in position]
    if missing and len(missing) == len(studies):
        raise _other_studies(member, studies)
    if missing:
        raise PredictionsError(
            f"member {member.name} has no row for {len(missing)} of {len(studies)} studies: {first_few(missing)}; "
            "`--missing drop` leaves them out"
        )
    return np.array([position[study] for study in studies], dtype=np.intp)


def _other_studies(member: Member, studies: Sequence[str]) -> PredictionsError:
    return PredictionsError(
        f"{member.rows.source} seems to be of other studies: it has {member.rows.studies[0]}, the labels have "
        f"{studies[0]}; both must name studies in the same way"
    )
