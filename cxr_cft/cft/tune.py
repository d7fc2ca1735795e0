"""Category-wise Fine-Tuning of a whole run: features, heads, cft.json, and the predictions after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cxr_cft.artifacts import Run, fingerprint, library_versions, write_json
from cxr_cft.cft.features import cached_features
from cxr_cft.cft.heads import fine_tune_heads
from cxr_cft.data.labels import known_labels
from cxr_cft.data.predictions import write_logits
from cxr_cft.data.splits import read_splits, shared_patients
from cxr_cft.data.table import Table, read_frame
from cxr_cft.errors import RunError, first_few
from cxr_cft.progress import SILENT, Progress
from cxr_cft.settings import Recipe
from cxr_cft.training.inference import arithmetic_threads
from cxr_cft.training.model import load_model, save_tensors


def tune_run(
    run: Run, *, root: Path | None = None, methods: Sequence[str] | None = None, progress: Progress = SILENT
) -> pd.DataFrame:
    """Tune a run's heads on the data it was trained on and write heads.safetensors, predictions and cft.json.

    `root` is the data folder, where it has moved since; `methods` replaces the recipe's. Returns the report of
    `fine_tune_heads`. Raises RunError if the data are not those of training.
    """
    recipe = Recipe.model_validate(run.info["recipe"])
    methods = tuple(methods or recipe.cft.methods)
    folder, image_root = run.data(root)
    splits = read_splits(folder, run.categories, image_root)
    if fingerprint(splits["train"].source, splits["valid"].source) != run.info["data"]["fingerprint"]:
        raise RunError(f"the CSVs in {folder} are not those that run {run.name} was trained on; train it again")
    splits["train"] = _trained_on(run, splits["train"])
    for (first, split), patients in shared_patients(splits).items():
        used = "trained on" if first == "train" else "validated on"
        progress.note(f"{len(patients)} patients of {split}.csv were {used}: {first_few(patients)}; it is not unseen")

    features = cached_features(run, splits, progress)
    head = load_model(run).head
    with arithmetic_threads(recipe):
        result = fine_tune_heads(
            head.weight,
            head.bias,
            train=(features["train"], known_labels(splits["train"].labels)),
            valid=(features["valid"], known_labels(splits["valid"].labels)),
            methods=methods,
            metric=recipe.cft.metric,
            seed=recipe.seed,
            names=run.categories,
            progress=progress,
        )
    save_tensors(run.heads_file, {"weight": torch.from_numpy(result.weight), "bias": torch.from_numpy(result.bias)})
    for split in splits:
        if split != "train":
            logits = features[split] @ result.weight.T + result.bias
            write_logits(run.predictions(split, tuned=True), splits[split], logits)
    write_json(
        run.path / "cft.json",
        {
            "model": run.info["files"]["model.safetensors"],
            "heads": fingerprint(run.heads_file),
            "methods": list(methods),
            "metric": recipe.cft.metric,
            "seed": recipe.seed,
            "note": "before and after are on the validation views that chose the method: after is optimistic",
            "categories": _records(result.report),
            "versions": library_versions(),
        },
    )
    return result.report


def _trained_on(run: Run, table: Table) -> Table:
    """The rows of train.csv that the backbone saw: training leaves out patients of other splits, and says so there."""
    split = read_frame(run.path / "split.csv")
    kept = set(split["Path"][split["split"] == "train"])
    return table.take(np.asarray([path in kept for path in table.paths], dtype=bool))


def _records(report: pd.DataFrame) -> list[dict[str, object]]:
    """The report as JSON's own types, None for what is undefined; without the seconds, so that a rerun is the same."""
    records = report.drop(columns="seconds").astype(object).replace({np.nan: None}).to_dict("records")
    return [{str(key): value for key, value in record.items()} for record in records]
