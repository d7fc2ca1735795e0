"""A submission's folder: models, predict.py and the modules it carries, described, fingerprinted, and zipped."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_cft.artifacts import Run, check_name, fingerprint, open_run, replacing, write_json, write_text
from cxr_cft.data.images import read_image
from cxr_cft.data.labels import COMPETITION
from cxr_cft.data.studies import AGGREGATION
from cxr_cft.data.table import check_images, read_table
from cxr_cft.ensemble.file import Ensemble, MemberEntry
from cxr_cft.ensemble.members import run_fingerprint
from cxr_cft.errors import SubmissionError, first_few
from cxr_cft.progress import SILENT, Progress
from cxr_cft.settings import Recipe
from cxr_cft.submission.card import model_card
from cxr_cft.submission.export import BATCHES, HEADS, export_onnx
from cxr_cft.submission.folds import with_fold_runs

CARRIED = (
    "cxr_cft.data.images",
    "cxr_cft.data.odds",
    "cxr_cft.data.studies",
    "cxr_cft.ensemble.blend",
    "cxr_cft.submission.inputs",
    "cxr_cft.submission.runtime",
    "cxr_cft.submission.telling",
)
"""Modules that predict.py imports from the package; in a bundle they lie beside it under their last name."""

MANIFEST = "manifest.json"

EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first day: the same input gives the same bytes


@dataclass(frozen=True)
class Bundle:
    """A packaged submission: its folder, its zip, and per model how far ONNX and torch are apart at most."""

    folder: Path
    archive: Path
    parity: dict[str, float]


def package(
    ensemble: Ensemble,
    name: str,
    out: Path,
    progress: Progress = SILENT,
    *,
    near: Path | None = None,
    root: Path | None = None,
) -> Bundle:
    """Write OUT/NAME/ and OUT/NAME.zip from the runs of an ensemble file; an earlier bundle of that name is replaced.

    Members whose weights in the candidate in use count for none of the bundle's columns are left out; heads of one run
    share a model; joined folds are packed as their runs. `near` is a folder to look for runs in that have moved since
    the search, `root` the data folder, where that has moved. Raises RunError for a run that is gone, and
    SubmissionError if OUT/NAME holds something else than a bundle, a member is a foreign CSV (there is no model to
    pack), a run has changed since the weights were searched, or an export does not repeat torch's numbers.
    """
    check_name(name)
    _check_replaceable(out / name)
    output = COMPETITION if set(COMPETITION) <= set(ensemble.categories) else ensemble.categories
    folds = [member.name for member in _weighty(ensemble, output) if member.kind == "folds"]
    ensemble = with_fold_runs(ensemble, folds, near)
    members = _weighty(ensemble, output)
    runs = _runs(members, near)
    if output is not COMPETITION:
        missing = [category for category in COMPETITION if category not in ensemble.categories]
        progress.note(f"the CheXpert competition would reject this bundle: it does not predict {', '.join(missing)}")
    models = _models(members, runs)
    parity = {}
    with replacing(out / name) as folder:
        (folder / "models").mkdir(parents=True)
        entries = {}
        for model, packed in progress.track(models.items(), "exporting", len(models), "models"):
            run = runs[packed[0].name]
            heads = [head for head in HEADS if head in map(_head, packed)]
            path, parity[model] = export_onnx(run, _sample_images(run, root), heads=heads)
            shutil.copyfile(path, folder / "models" / f"{model}.onnx")
            for member in packed:
                first = heads.index(_head(member)) * len(run.categories)
                entries[member.name] = _entry(member, ensemble, run, model, first)
        write_json(
            folder / "submission.json",
            {
                "version": version("cxr-cft"),
                "output": list(output),
                "categories": list(ensemble.categories),
                "aggregation": ensemble.aggregation,
                "members": [entries[member.name] for member in members],
                "output_scale": {name: scale.model_dump() for name, scale in ensemble.candidate.output.items()},
                "prior": ensemble.candidate.prior,
            },
        )
        _write_code(folder)
        write_text(folder / "requirements.txt", _requirements())
        differences = {member.name: parity[model] for model, packed in models.items() for member in packed}
        write_text(folder / "MODEL_CARD.md", model_card(name, output, ensemble, runs, differences, folds))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = {path.relative_to(folder).as_posix(): fingerprint(path) for path in files}
        write_json(folder / MANIFEST, {"sha256": sums})
    archive = out / f"{name}.zip"
    _zip(out / name, archive)
    return Bundle(out / name, archive, parity)


def _check_replaceable(folder: Path) -> None:
    """Only a bundle makes way for a bundle."""
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / MANIFEST).is_file())):
        raise SubmissionError(f"{folder} is there already and is no bundle; give another --name or --out")


def _weighty(ensemble: Ensemble, output: Sequence[str]) -> list[MemberEntry]:
    """The members that have weight for a category of `output`. Raises SubmissionError if one came from a CSV."""
    columns = [ensemble.categories.index(category) for category in output]
    weights = ensemble.weights()[:, columns]
    members = [member for member, own in zip(ensemble.members, weights, strict=True) if own.any()]
    foreign = [member.name for member in members if member.kind == "csv"]
    if foreign:
        raise SubmissionError(
            f"{first_few(foreign)} came from a CSV, which holds no model to pack; "
            "search the ensemble again over runs alone, or CSVs of joined folds beside all their runs"
        )
    return members


def _runs(members: Sequence[MemberEntry], near: Path | None) -> dict[str, Run]:
    """The run of each member, by the member's name, as it was when the weights were searched."""
    runs = {member.name: _open(member, near) for member in members}
    for member in members:
        run = runs[member.name]
        if _changed(member, run):
            raise SubmissionError(f"run {run.name} has changed since the ensemble; run `cxr-cft ensemble` again")
    return runs


def _models(members: Sequence[MemberEntry], runs: Mapping[str, Run]) -> dict[str, list[MemberEntry]]:
    """The members of each run under the name of its model: the run's own, or RUN-2 where another run has that."""
    names: dict[Path, str] = {}
    models: dict[str, list[MemberEntry]] = {}
    for member in members:
        run = runs[member.name]
        folder = run.path.resolve()
        if folder not in names:
            others = (f"{run.name}-{number}" for number in count(2))
            names[folder] = next(name for name in chain([run.name], others) if name not in models)
        models.setdefault(names[folder], []).append(member)
    return models


def _head(member: MemberEntry) -> str:
    return "tuned" if member.tuned else "trained"


def _entry(member: MemberEntry, ensemble: Ensemble, run: Run, model: str, first: int) -> dict[str, Any]:
    """A member as submission.json describes it to predict.py; `first` is the first of its columns in the model."""
    candidate = ensemble.candidate
    return {
        "name": member.name,
        "model": f"models/{model}.onnx",
        "head": _head(member),
        "first": first,
        "weights": candidate.weights[member.name],
        "scale": {category: scale.model_dump() for category, scale in member.scales[candidate.scale].items()},
        "categories": list(run.categories),
        "preprocessing": run.info["preprocessing"],
        "views": Recipe.model_validate(run.info["recipe"]).data.views,
        # The search saw an older run's predictions by study only: the maximum of its views, whatever the others' are.
        **({} if member.by_view else {"aggregation": AGGREGATION}),
    }


def _changed(member: MemberEntry, run: Run) -> bool:
    """Whether the member's head is another one; the trained head is still itself after its run was tuned."""
    if member.tuned and run.tuned() is None:
        return True
    return run_fingerprint(run, tuned=member.tuned) != member.fingerprint


def _open(member: MemberEntry, near: Path | None) -> Run:
    source = Path(member.source)
    moved = near / source.name if near else source
    return open_run(moved if moved.is_dir() and not source.is_dir() else source)


def _sample_images(run: Run, root: Path | None) -> NDArray[np.uint8]:
    """As many validation images (n, S, S) as the largest comparison takes; repeated where there are fewer."""
    root, image_root = run.data(root)
    table = read_table(root / "valid.csv", root, run.categories, labelled=False, image_root=image_root)
    first = table.take(np.arange(len(table)) < max(BATCHES))
    check_images(first)
    images = [read_image(first.file(row), run.info["preprocessing"]["size"]) for row in range(len(first))]
    return np.resize(np.stack(images), (max(BATCHES), *images[0].shape))


def _write_code(folder: Path) -> None:
    """predict.py and the modules it carries, their imports turned from the package to the files beside them."""
    for module in ("cxr_cft.submission.predict", *CARRIED):
        package_name, _, stem = module.rpartition(".")
        text = (resources.files(package_name) / f"{stem}.py").read_text(encoding="utf-8")
        for carried in CARRIED:
            text = text.replace(f"from {carried} import", f"from {carried.rpartition('.')[2]} import")
        write_text(folder / f"{stem}.py", text)


def _requirements() -> str:
    lines = [f"numpy=={version('numpy')}", f"pillow=={version('pillow')}"]
    for library in ("onnxruntime-gpu", "onnxruntime"):
        try:
            found = version(library)
        except PackageNotFoundError:
            continue
        lines.append(f"onnxruntime=={found}  # or onnxruntime-gpu=={found} where there is a CUDA device")
        break
    return "\n".join(lines) + "\n"


def _zip(folder: Path, archive: Path) -> None:
    with replacing(archive) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            file.writestr(entry, path.read_bytes())
