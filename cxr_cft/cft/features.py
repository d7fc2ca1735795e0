"""A run's features: one pass per split, kept on disk, read memory-mapped, never those of other weights."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from cxr_cft.artifacts import Run, fingerprint, read_json, write_array, write_json
from cxr_cft.data.table import Table, check_images
from cxr_cft.progress import SILENT, Progress
from cxr_cft.settings import Recipe
from cxr_cft.training.inference import arithmetic_threads, default_device, over_table
from cxr_cft.training.model import load_model


def cached_features(run: Run, splits: dict[str, Table], progress: Progress = SILENT) -> dict[str, NDArray[np.float32]]:
    """Features (N, D) float32 of every split's views, in evaluation mode and without augmentation.

    They lie in RUN/features/SPLIT.npy beside SPLIT.json, which names the weights, the rows and the preprocessing they
    are of; where it agrees they are read, otherwise computed anew. Raises DataError for a missing or unreadable image.
    """
    keys = {split: _key(run, table) for split, table in splits.items()}
    stale = {split: table for split, table in splits.items() if _stored_key(run, split) != keys[split]}
    if stale:
        recipe = Recipe.model_validate(run.info["recipe"])
        device = default_device()
        model = load_model(run).to(device)
        for split, table in stale.items():
            check_images(table)
            with arithmetic_threads(recipe):
                features = over_table(model.features, table, recipe, device, f"features of {split}", progress)
            key = run.path / "features" / f"{split}.json"
            key.unlink(missing_ok=True)  # killed after the array is written, the old key must not vouch for it
            write_array(key.with_suffix(".npy"), features)
            write_json(key, keys[split])
    return {split: _open(run, split) for split in splits}


def _key(run: Run, table: Table) -> dict[str, Any]:
    return {
        "model": run.info["files"]["model.safetensors"],
        "csv": fingerprint(table.source),
        # Which rows, not only how many: another split's patients are left out of training.
        "rows": hashlib.sha256("\n".join(table.paths).encode()).hexdigest(),
        "images": str(table.images),
        "preprocessing": run.info["preprocessing"],
    }


def _stored_key(run: Run, split: str) -> dict[str, Any] | None:
    path = run.path / "features" / f"{split}.json"
    array = path.with_suffix(".npy")
    return read_json(path) if path.exists() and array.exists() else None


def _open(run: Run, split: str) -> NDArray[np.float32]:
    features: NDArray[np.float32] = open_memmap(run.path / "features" / f"{split}.npy", mode="r")
    return features
