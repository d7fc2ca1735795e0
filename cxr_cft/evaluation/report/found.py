"""What lies in weights/ and submissions/: runs, ensemble files, CSVs, bundles, and a line for each that is damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cxr_cft.artifacts import Run, fingerprint, open_run, read_json
from cxr_cft.ensemble.file import read_ensemble
from cxr_cft.errors import CxrCftError, RunError, SubmissionError
from cxr_cft.evaluation.report.facts import Search

F = TypeVar("F", bound="_Form")


class _Form(BaseModel):
    """The part of a JSON artefact that a page needs; whatever else it holds is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Source(_Form):
    """Where a run's data lay, and the sha256 of train.csv and valid.csv then."""

    root: str
    image_root: str | None = None
    fingerprint: str = ""


class Chosen(_Form):
    """What validation chose: the epoch, 0 where an older run does not say."""

    best_epoch: int = 0


class RunInfo(_Form):
    """run.json."""

    categories: tuple[str, ...] = Field(min_length=1)
    data: Source
    recipe: dict[str, Any] = {}
    changes: tuple[str, ...] = ()
    metrics: Chosen = Chosen()
    versions: dict[str, str] = {}
    files: dict[str, str] = {}

    def section(self, name: str) -> dict[str, Any]:
        """A section of the recipe; empty where an older run has none."""
        found = self.recipe.get(name)
        return found if isinstance(found, dict) else {}


class TunedCategory(_Form):
    """A category's row in cft.json."""

    category: str
    method: str
    before: float | None = None
    after: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    reason: str | None = None


class CftInfo(_Form):
    """cft.json."""

    heads: str
    methods: tuple[str, ...] = ()
    metric: str = "auroc"
    seed: int = 0
    options: dict[str, Any] = {}
    categories: tuple[TunedCategory, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """The categories that got another head."""
        return tuple(row.category for row in self.categories if row.method != "original")


class PackedMember(_Form):
    """A member in submission.json."""

    name: str
    run: str
    fingerprint: str
    weights: dict[str, float] = {}


class Specification(_Form):
    """submission.json."""

    version: str
    output: tuple[str, ...]
    aggregation: str
    members: tuple[PackedMember, ...]
    precision: str = "fp32"


@dataclass(frozen=True, eq=False)
class FoundRun:
    """A complete run whose weights are those of run.json; `cft` is None where no heads were tuned from them."""

    run: Run
    info: RunInfo
    cft: CftInfo | None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.run.name

    @property
    def backbone(self) -> str:
        """In words, with the size of its input."""
        model = self.info.section("model")
        size = f", {model['image_size']} px" if "image_size" in model else ""
        return f"{model.get('backbone', 'a backbone that run.json does not name')}{size}"


@dataclass(frozen=True, eq=False)
class FoundBundle:
    """A bundle whose files are those of its manifest, `sums` their sha256."""

    folder: Path
    specification: Specification
    sums: dict[str, str]


@dataclass(frozen=True, eq=False)
class Found:
    """All artefacts that can be read, each kind in the order of names."""

    weights: Path
    submissions: Path
    runs: tuple[FoundRun, ...]
    searches: tuple[Search, ...]
    csvs: tuple[Path, ...]
    bundles: tuple[FoundBundle, ...]

    def search(self) -> Search | None:
        """The ensemble in use: ensemble.json, or the only file where none has that name."""
        named = [each for each in self.searches if each.name == "ensemble.json"]
        return named[0] if named else self.searches[0] if len(self.searches) == 1 else None


def find_artefacts(weights: Path, submissions: Path, missing: list[str]) -> Found:
    """Read what lies directly in both folders; what cannot be read, or is not complete, becomes a line of `missing`."""
    return Found(
        weights,
        submissions,
        _runs(weights, missing),
        _searches(weights, missing),
        (*_shown(weights, "*.csv"), *_shown(submissions, "*.csv")),
        _bundles(submissions, missing),
    )


def _runs(weights: Path, missing: list[str]) -> tuple[FoundRun, ...]:
    found = []
    for folder in _shown(weights, "*"):
        if (folder / "run.json").is_file():
            try:
                info = _form(RunInfo, folder / "run.json")
                run = open_run(folder)
            except CxrCftError as error:
                missing.append(f"Run {folder.name} is left out: {error}.")
                continue
            found.append(FoundRun(run, info, _tuned(run, missing)))
        elif (folder / "history.jsonl").exists() or (folder / "checkpoint").is_dir():
            missing.append(
                f"The training of {folder.name} has not ended, so that it is not shown; go on with it by"
                " `cxr-cft train … --resume`."
            )
    return tuple(found)


def _tuned(run: Run, missing: list[str]) -> CftInfo | None:
    path = run.path / "cft.json"
    try:
        if run.tuned() is not None:
            return _form(CftInfo, path)
        if path.exists():
            raise RunError(f"{path} is of older weights; run `cxr-cft cft {run.path}` again")
        missing.append(f"Run {run.name} has no tuned heads; `cxr-cft cft {run.path}` makes them.")
    except CxrCftError as error:
        missing.append(f"The tuned heads of run {run.name} are left out: {error}.")
    return None


def _searches(weights: Path, missing: list[str]) -> tuple[Search, ...]:
    found = []
    for path in _shown(weights, "*.json"):
        try:
            found.append(Search(path.name, read_ensemble(path), fingerprint(path)))
        except CxrCftError as error:
            missing.append(f"{path.name} is left out: {error}.")
    return tuple(found)


def _bundles(submissions: Path, missing: list[str]) -> tuple[FoundBundle, ...]:
    found = []
    for path in sorted(submissions.glob("*/submission.json")):
        if path.parent.name.startswith("."):
            continue
        try:
            found.append(FoundBundle(path.parent, _form(Specification, path), _sums(path.parent)))
        except CxrCftError as error:
            missing.append(f"Bundle {path.parent.name} is left out: {error}.")
    return tuple(found)


def _sums(folder: Path) -> dict[str, str]:
    """The manifest's sums. Raises SubmissionError where a file is not what it was packed as."""
    sums = read_json(folder / "manifest.json").get("sha256")
    if not isinstance(sums, dict):
        raise SubmissionError(f"{folder / 'manifest.json'} holds no sums; package it again")
    for name, expected in sums.items():
        file = folder / str(name)
        if not file.is_file() or fingerprint(file) != expected:
            raise SubmissionError(f"{file} is missing or damaged (sha256 differs from manifest.json); package it again")
    return {str(name): str(value) for name, value in sums.items()}


def _form(form: type[F], path: Path) -> F:
    """A JSON artefact as its form. Raises CxrCftError where it is none."""
    try:
        return form.model_validate(read_json(path))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise CxrCftError(f"{path} is not what this tool writes: {where}: {fault['msg']}") from error


def _shown(folder: Path, pattern: str) -> list[Path]:
    """The folder's entries but hidden ones; none where there is no such folder."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
