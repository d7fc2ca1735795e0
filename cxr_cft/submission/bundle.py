"""A submission's folder: models, predict.py and the modules it carries, described, fingerprinted, and zipped."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
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
from cxr_cft.submission.export import BATCHES, export_onnx

CARRIED = ("cxr_cft.data.images", "cxr_cft.data.odds", "cxr_cft.data.studies", "cxr_cft.ensemble.blend")
"""Modules that predict.py imports from the package; in a bundle they lie beside it under their last name."""

MANIFEST = "manifest.json"

EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first day: the same input gives the same bytes


@dataclass(frozen=True)
class Bundle:
    """A packaged submission: its folder, its zip, and per member how far ONNX and torch are apart at most."""

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

    Members without weight are left out. `near` is a folder to look for runs in that have moved since the search, `root`
    the data folder, where that has moved. Raises RunError for a run that is gone, and SubmissionError if OUT/NAME holds
    something else than a bundle, a member is a foreign CSV (there is no model to pack), a run has changed since the
    weights were searched, or an export does not repeat torch's numbers.
    """
    check_name(name)
    _check_replaceable(out / name)
    runs = _runs(ensemble, near)
    output = COMPETITION if set(COMPETITION) <= set(ensemble.categories) else ensemble.categories
    if output is not COMPETITION:
        missing = [category for category in COMPETITION if category not in ensemble.categories]
        progress.note(f"the CheXpert competition would reject this bundle: it does not predict {', '.join(missing)}")
    parity = {}
    with replacing(out / name) as folder:
        (folder / "models").mkdir(parents=True)
        entries = []
        packed = [member for member in ensemble.members if member.name in runs]
        for member in progress.track(packed, "exporting", len(packed), "models"):
            run = runs[member.name]
            images = _sample_images(run, root)
            path, parity[member.name] = export_onnx(run, images, tuned=member.tuned)
            shutil.copyfile(path, folder / "models" / f"{member.name}.onnx")
            entries.append(_entry(member, run))
        write_json(
            folder / "submission.json",
            {
                "version": version("cxr-cft"),
                "output": list(output),
                "categories": list(ensemble.categories),
                "aggregation": AGGREGATION,
                "members": entries,
                "prior": ensemble.prior,
            },
        )
        _write_code(folder)
        write_text(folder / "requirements.txt", _requirements())
        write_text(folder / "MODEL_CARD.md", model_card(name, output, ensemble, list(runs.values()), parity))
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


def _runs(ensemble: Ensemble, near: Path | None) -> dict[str, Run]:
    """The runs of the members that have weight, as they were when the weights were searched."""
    weighty = [member for member in ensemble.members if member.weight > 0]
    foreign = [member.name for member in weighty if member.kind == "csv"]
    if foreign:
        raise SubmissionError(
            f"{first_few(foreign)} came from a CSV, which holds no model to pack; "
            "search the ensemble again over runs alone"
        )
    runs = {member.name: _open(member, near) for member in weighty}
    for member in weighty:
        if _changed(member, runs[member.name]):
            raise SubmissionError(f"run {member.name} has changed since the ensemble; run `cxr-cft ensemble` again")
    return runs


def _entry(member: MemberEntry, run: Run) -> dict[str, Any]:
    """A member as submission.json describes it to predict.py."""
    return {
        "name": member.name,
        "model": f"models/{member.name}.onnx",
        "weight": member.weight,
        "categories": list(run.categories),
        "preprocessing": run.info["preprocessing"],
        "views": Recipe.model_validate(run.info["recipe"]).data.views,
        "scale": {category: scale.model_dump() for category, scale in member.scale.items()},
    }


def _changed(member: MemberEntry, run: Run) -> bool:
    tuned = run.tuned() is not None
    return tuned != member.tuned or run_fingerprint(run, tuned=tuned) != member.fingerprint


def _open(member: MemberEntry, near: Path | None) -> Run:
    source = Path(member.source)
    moved = near / member.name if near else source
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
