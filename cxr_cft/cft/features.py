"""A run's features: one pass per split, kept on disk and read memory-mapped, never those of other weights or images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import nn

from cxr_cft.artifacts import Run, fingerprint, npy_header, read_json, replacing, writing
from cxr_cft.data.labels import known_labels
from cxr_cft.data.table import Table
from cxr_cft.errors import CxrCftError
from cxr_cft.metrics import auroc, per_category
from cxr_cft.progress import SILENT, Progress
from cxr_cft.settings import Recipe
from cxr_cft.training.inference import arithmetic_threads, default_device
from cxr_cft.training.into_file import pass_into_file, unfinished
from cxr_cft.training.model import Classifier, load_model

ROWS = 1024  # that are in memory at once when 16 bits are measured and written (assumed: 45 MB at 2,048 features)
NIL = 1e-5
"""A change of an AUROC below this counts as none: a tenth of the last digit that is ever printed."""

_Key = dict[str, Any]


def cached_features(
    run: Run, splits: dict[str, Table], progress: Progress = SILENT, recipe: Recipe | None = None
) -> dict[str, NDArray[Any]]:
    """Features (N, D) of every view of every split, frontal or lateral, by the model in evaluation mode; read-only.

    They lie memory-mapped in RUN/features/SPLIT.npy: float32, or float16 where the recipe (the run's own, if none is
    given) asks for it (`cft.features`) and no category's AUROC by the trained head changes. SPLIT.json, written last,
    says what they are of: weights, rows, images, preprocessing. Where all that agrees and the array is as it was
    written they are read, otherwise computed anew; a killed pass goes on where it was. Raises DataError for a missing
    or unreadable image, CxrCftError where the disk does not take them.
    """
    recipe = recipe or Recipe.model_validate(run.info["recipe"])
    function = _function(run, recipe)
    keys = {split: {**function, **_data(table)} for split, table in splits.items()}  # names all that is missing, first
    found: dict[str, NDArray[Any]] = {}
    model: Classifier | None = None
    for split, table in splits.items():
        place = _Place(run.path / "features", split)
        features = _open(place, keys[split], progress)
        if features is None:
            model = model or load_model(run).to(default_device())
            with arithmetic_threads(recipe):
                _build(place, table, keys[split], model, recipe, progress)
            features = _open(place, keys[split], progress)
            if features is None:
                raise CxrCftError(f"{place.array} does not hold what was just written to it; check the disk")
        found[split] = features
    return found


@dataclass(frozen=True)
class _Place:
    """Where a split's features lie: the array and its key, and beside them those of an unfinished pass."""

    folder: Path
    split: str

    @property
    def array(self) -> Path:
        return self.folder / f"{self.split}.npy"

    @property
    def key(self) -> Path:
        return self.folder / f"{self.split}.json"

    @property
    def rows(self) -> Path:
        return self.folder / f"{self.split}.partial.npy"

    @property
    def halved(self) -> Path:
        return self.folder / f"{self.split}.float16.npy"


# ---- what features are of, and whether those on disk are


def _function(run: Run, recipe: Recipe) -> _Key:
    """What makes features of images."""
    return {
        "model": fingerprint(run.model_file),
        # What the weights do not say: image size, timm's arguments, test-time augmentation.
        "architecture": recipe.model.model_dump(mode="json", exclude={"pretrained"}),
        "preprocessing": run.info["preprocessing"],
        # Not torch: its builds differ from machine to machine, and a version from the next by rounding (assumed).
        "libraries": {name: version(name) for name in ("pillow", "timm")},
        "features": recipe.cft.features,
    }


def _data(table: Table) -> _Key:
    return {
        "csv": fingerprint(table.source),
        # Which rows, not only how many: another split's patients are left out of training.
        "rows": hashlib.sha256("\n".join(table.paths).encode()).hexdigest(),
        "images": table.image_digest(),
    }


def _open(place: _Place, key: _Key, progress: Progress) -> NDArray[Any] | None:
    """The finished features, if they are of this key and as they were written; else None, and a note that says why."""
    if not (place.key.exists() and place.array.exists()):
        return None
    stored = _read(place.key)
    known = stored.get("key")
    if not isinstance(known, dict):
        why = f"{place.key} does not say what they are of"
    elif differing := [part for part in key if known.get(part) != key[part]]:
        why = f"changed since: {', '.join(differing)}"
    elif stored.get("sha256") != fingerprint(place.array):
        why = f"{place.array} is not as it was written"
    else:
        features: NDArray[Any] = open_memmap(place.array, mode="r")
        if [*features.shape, features.dtype.name] == stored.get("array"):
            _clear(place, key)
            return features
        why = f"{place.array} is not as {place.key.name} says"
    progress.note(f"features of {place.split} are computed anew: {why}")
    return None


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where it is missing or damaged, which no key agrees with."""
    with suppress(CxrCftError):
        return read_json(path)
    return {}


def _clear(place: _Place, key: _Key) -> None:
    """Remove what a pass leaves if it is killed at its very end; another key's unfinished pass stays."""
    record = unfinished(place.rows)
    if _read(record).get("key") == key:
        for path in (place.halved, place.rows, record):  # the record last: it is what leads here again
            path.unlink(missing_ok=True)


# ---- making them


def _build(place: _Place, table: Table, key: _Key, model: Classifier, recipe: Recipe, progress: Progress) -> None:
    """Pass over a split, in float32 and on from where a killed pass was, and leave its array and key."""
    record = unfinished(place.rows)
    # Killed between its last two renames, a pass has its array's name but not yet its key.
    if record.exists() and place.array.exists() and not (place.rows.exists() or place.key.exists()):
        place.array.replace(place.rows)
    sha256 = pass_into_file(
        model.features,
        model.head.in_features,
        table,
        recipe,
        model.head.weight.device,
        place.rows,
        key,
        f"features of {place.split}",
        progress,
    )
    source, dtype, sixteen = place.rows, "float32", None
    if recipe.cft.features == "float16":
        sixteen = _measure_16_bits(place.rows, model.head, table)
        progress.note(f"features of {place.split} are kept in {sixteen['kept']}: {sixteen['why']}")
        if sixteen["kept"] == "float16":
            source, dtype, sha256 = place.halved, "float16", _halve(place.rows, place.halved)
    shape = (len(table), model.head.in_features)
    content = {"key": key, "array": [*shape, dtype], "sha256": sha256, "16 bits": sixteen}
    with replacing(place.key) as beside:
        beside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        place.key.unlink(missing_ok=True)  # the old key must not vouch for the new array
        source.replace(place.array)
    _clear(place, key)


# ---- 16 bits, where they cost nothing


def _measure_16_bits(source: Path, head: nn.Linear, table: Table) -> dict[str, Any]:
    """What is kept, float16 or float32, the largest change of a category's AUROC by the trained head, and why.

    float16 rather than bfloat16: features are of moderate size, and it keeps three bits more of each.
    """
    known = known_labels(table.labels)
    both = (known == 1).any(axis=0) & (known == 0).any(axis=0)
    if not both.any():
        return _verdict(None, f"{table.source.name} has no category with both known labels to measure a loss on")
    weight, bias = (parameter.detach().double().cpu().numpy() for parameter in (head.weight, head.bias))
    logits = np.empty((2, *known.shape))
    for start, exact, halved in _chunks(source):
        if not np.isfinite(halved).all():
            return _verdict(None, "some are too large for float16, or not finite")
        rows = slice(start, start + len(exact))
        logits[0, rows] = exact.astype(np.float64) @ weight.T + bias
        logits[1, rows] = halved.astype(np.float64) @ weight.T + bias
    before, after = per_category(auroc, known[:, both], logits[:, :, both])
    changes = np.abs(after - before)
    worst = int(changes.argmax())
    name = np.asarray(table.categories)[both][worst]
    counted = f"the largest change of an AUROC by float16 is {changes[worst]:.1e} ({name}, of {both.sum()} categories)"
    return _verdict(float(changes[worst]), counted)


def _verdict(change: float | None, why: str) -> dict[str, Any]:
    kept = "float16" if change is not None and change < NIL else "float32"
    return {"kept": kept, "largest AUROC change": change, "why": why}


def _halve(source: Path, target: Path) -> str:
    """Write an array's rows as float16; returns the sha256 of the file."""
    digest = hashlib.sha256()
    with writing(target), target.open("wb") as file:
        for content in _halved_content(source):
            file.write(content)
            digest.update(content)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _halved_content(source: Path) -> Iterator[bytes]:
    yield npy_header(open_memmap(source, mode="r").shape, np.float16)
    for _, _, halved in _chunks(source):
        yield halved.tobytes()


def _chunks(source: Path) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float16]]]:
    """The first row's number, the rows and what float16 makes of them, `ROWS` at a time."""
    features = open_memmap(source, mode="r")
    for start in range(0, len(features), ROWS):
        exact = np.asarray(features[start : start + ROWS])
        with np.errstate(over="ignore"):
            halved = exact.astype(np.float16)
        yield start, exact, halved
