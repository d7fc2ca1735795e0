"""Whether studies are unseen: what artefacts know of the part that their patients had in training and in choices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_cft.artifacts import fingerprint
from cxr_cft.data.studies import study_of
from cxr_cft.data.table import patient_of, read_frame
from cxr_cft.data.truth import StudyLabels
from cxr_cft.ensemble.file import Ensemble, MemberEntry
from cxr_cft.ensemble.members import folds_of, run_folder
from cxr_cft.errors import CxrCftError, first_few

CHOSE = ("train", "valid")  # the splits that a run's weights, epoch and tuned heads come from


@dataclass(frozen=True)
class Part:
    """A clause for each part that studies are known to have had, and for each that is not known."""

    seen: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def unseen(self) -> bool:
        """Whether artefacts say of everything that these studies had no part in it."""
        return not self.seen and not self.unknown


def part_of(
    truth: StudyLabels,
    runs: Iterable[Path],
    foreign: Sequence[str],
    searches: Mapping[str, Ensemble],
    labels: Iterable[Path] = (),
) -> Part:
    """The part that labelled studies, by their patients' names, had in the making of what they measure.

    `runs` are folders, whose split.csv says whom they learnt from; of `foreign`, by name, nothing is known; of
    `searches`, by name, it matters on whom they were searched. Their label CSV is looked for where it lay then and
    among `labels`, and is it only with the sha256 that it had.
    """
    patients = {patient_of(study) for study in truth.studies}
    seen: list[str] = []
    unknown: list[str] = []
    learnt = {folder.resolve(): (folder.name, _learnt(folder)) for folder in runs}
    both = [(name, patients & found) for name, found in learnt.values() if patients & found]
    if both:
        number = len(set[str]().union(*(found for _, found in both)))
        seen.append(
            f"{number} of the {len(patients)} patients, by their names, were trained or validated on by"
            f" {first_few([name for name, _ in both], 9)}"
        )
    if silent := [name for name, found in learnt.values() if not found]:
        unknown.append(f"whom {first_few(silent, 9)} learnt from is not known, for want of a split.csv")
    if foreign:
        unknown.append(f"nothing is known of what {first_few(foreign, 9)} has seen")
    if not (learnt or foreign):
        unknown.append("there is no run that says whom it learnt from")
    places = list(labels)
    for name, ensemble in searches.items():
        chose, silence = _searched(truth, patients, name, ensemble, places)
        seen += chose
        unknown += silence
    return Part(tuple(seen), tuple(unknown))


def runs_behind(members: Iterable[MemberEntry], near: Path | None = None) -> tuple[list[Path], list[str]]:
    """The folders of the runs that members are of, and the names of the members that came from elsewhere.

    A run, or a CSV of joined folds, is looked for in the folder `near` first.
    """
    folders: list[Path] = []
    foreign: list[str] = []
    for member in members:
        source = Path(member.source)
        copied = near / source.name if near else source
        csv = copied if copied.is_file() or not source.is_file() else source
        joined = folds_of(csv) if member.kind == "folds" else None
        if member.kind == "run":
            folders.append(run_folder(source, near))
        elif joined:
            folders += joined[0]
        else:
            foreign.append(member.name)
    return folders, foreign


def _learnt(run: Path) -> set[str]:
    """The patients that a run was trained or validated on; none where it does not say."""
    try:
        frame = read_frame(run / "split.csv")
        used = frame["Path"][frame["split"].isin(CHOSE)]
    except (CxrCftError, KeyError):
        return set()
    return {patient_of(study_of(path)) for path in used}


def _searched(
    truth: StudyLabels, patients: set[str], name: str, ensemble: Ensemble, places: Sequence[Path]
) -> tuple[list[str], list[str]]:
    """What is known, and what is not, of the studies that an ensemble's weights were searched on."""
    labels = ensemble.labels
    if labels is None:  # of an older version: what it counted can tell that they are these, not that they are others
        if _counted_alike(truth, patients, ensemble):
            return [f"the weights of {name} were, by their numbers, searched on these labels"], []
        return [], [f"{name} is of an older version, which does not say on whom its weights were searched"]
    if labels.fingerprint == fingerprint(truth.source):
        return [f"the weights of {name} were searched on these very labels"], []
    source = next((path for path in (Path(labels.source), *places) if _is(path, labels.fingerprint)), None)
    chose = _patients_of(source) if source else set()
    if not chose:
        return [], [f"on whom the weights of {name} were searched is not known, as {labels.source} is gone or another"]
    both = patients & chose
    return ([f"the weights of {name} were searched on {len(both)} of the patients"] if both else []), []


def _counted_alike(truth: StudyLabels, patients: set[str], ensemble: Ensemble) -> bool:
    positives = dict(zip(truth.categories, (truth.labels == 1).sum(axis=0).tolist(), strict=True))
    counts = {name: positives.get(name) for name in ensemble.positives}
    size = (len(truth.studies), len(patients))
    return (ensemble.studies, ensemble.patients) == size and counts == ensemble.positives


def _is(path: Path, expected: str) -> bool:
    try:
        return fingerprint(path) == expected
    except OSError:
        return False


def _patients_of(labels: Path) -> set[str]:
    """The patients of a label CSV; none if it names no studies."""
    try:
        frame = read_frame(labels)
    except CxrCftError:
        return set()
    if "Path" in frame.columns:
        return {patient_of(study_of(path.strip())) for path in frame["Path"]}
    return {patient_of(study.strip().rstrip("/")) for study in frame.get("Study", ())}
