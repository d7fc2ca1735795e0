"""From a data folder and a recipe to a complete run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from cxr_cft.artifacts import Run, fingerprint, library_versions, open_run, write_csv, write_json
from cxr_cft.data.images import preprocessing
from cxr_cft.data.labels import chosen_categories, known_labels, training_targets
from cxr_cft.data.predictions import write_logits
from cxr_cft.data.splits import read_splits, without_patients
from cxr_cft.data.table import Table, check_images
from cxr_cft.errors import DataError, RunError, first_few
from cxr_cft.progress import SILENT, Progress
from cxr_cft.settings import Recipe
from cxr_cft.training.checkpoint import Checkpoint
from cxr_cft.training.fit import Task, fit
from cxr_cft.training.inference import default_device, over_table
from cxr_cft.training.model import Classifier, build_model, save_tensors


def train_run(
    recipe: Recipe, name: str, root: Path, weights: Path, *, resume: bool = False, progress: Progress = SILENT
) -> Run:
    """Train one backbone on a data folder and write `weights/name`, complete or to be resumed.

    Raises RunError if that run is complete, or unfinished and `resume` is not asked for; DataError and RecipeError for
    data or settings that cannot be used, before anything is written.
    """
    folder = weights / name
    _check_free(folder, resume=resume)
    categories = chosen_categories(recipe.labels)
    splits = read_splits(root, categories)
    held_out = [table for split, table in splits.items() if split != "train"]
    table = without_patients(splits["train"], held_out)
    if len(table) < len(splits["train"]):
        progress.note(
            f"left out {len(splits['train']) - len(table)} training views of patients who are in other splits"
        )
    splits["train"] = table
    task = _task(splits, recipe, fingerprint(splits["train"].source, splits["valid"].source))
    for each in splits.values():
        check_images(each)
    model = build_model(recipe, len(categories))
    _start_head(model, task)
    unlearnt = [category for category, mask in zip(categories, task.mask.T, strict=True) if not mask.any()]
    if unlearnt:
        progress.note(f"no known label in {table.source.name}, so predicted as a constant: {', '.join(unlearnt)}")

    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    progress.note(
        f"training {name}: {recipe.model.backbone} ({size:.1f} million parameters) on {len(table)} views "
        f"at {recipe.model.image_size} px"
    )
    folder.mkdir(parents=True, exist_ok=True)
    standing = fit(model, task, recipe, folder, progress)

    run = Run(folder, {})
    save_tensors(run.model_file, model.state_dict())
    write_csv(
        folder / "split.csv",
        ["Path", "split"],
        ((path, split) for split, part in splits.items() for path in part.paths),
    )
    device = default_device()
    for split, part in splits.items():
        if split != "train":
            logits = over_table(model, part, recipe, device, f"predicting {split}", progress)
            write_logits(run.predictions(split, tuned=False), part, logits)
    write_json(
        folder / "run.json",
        {
            "recipe": recipe.model_dump(mode="json"),
            "categories": list(categories),
            "unlearnt": unlearnt,
            "preprocessing": preprocessing(recipe.model.image_size),
            "data": {"root": str(root.resolve()), "fingerprint": task.fingerprint},
            "metrics": {
                "best_epoch": standing.best_epoch,
                "valid_mean_auroc": standing.best_score,
                "valid_note": "the epoch was chosen on these studies: optimistic",
            },
            "versions": library_versions(),
            "files": {"model.safetensors": fingerprint(run.model_file)},
        },
    )
    Checkpoint(folder).remove()
    return open_run(folder)


def _check_free(folder: Path, *, resume: bool) -> None:
    if (folder / "run.json").exists():
        raise RunError(f"run {folder} is complete; choose another --name, or delete it to train it again")
    if Checkpoint(folder).exists() and not resume:
        raise RunError(f"run {folder} is unfinished; go on with it by --resume, or choose another --name")


def _task(splits: dict[str, Table], recipe: Recipe, data: str) -> Task:
    train, valid = splits["train"], splits["valid"]
    if not len(train):
        raise DataError(f"{train.source}: every patient is also in another split; nothing is left to train on")
    targets, mask = training_targets(train.labels, train.categories, recipe.labels)
    if not mask.any():
        raise DataError(f"{train.source} has no known label in any of {first_few(train.categories, 5)}")
    known = known_labels(valid.study_labels()[1])
    if not ((known == 1).any(axis=0) & (known == 0).any(axis=0)).any():
        raise DataError(
            f"{valid.source} has no category with both a positive and a negative study; none can be validated"
        )
    return Task(train, targets, mask, valid, data)


def _start_head(model: Classifier, task: Task) -> None:
    """Start each category at its rate of positive targets; one that nothing is learnt for stays the constant 0.5."""
    counted: NDArray[np.float32] = task.mask.sum(axis=0)
    # Half a pseudo-count of each kind keeps a category with one kind of target finite.
    rate = ((task.targets * task.mask).sum(axis=0) + 0.5) / (counted + 1.0)
    learnt = torch.from_numpy(counted > 0)
    with torch.no_grad():
        model.head.bias.copy_(torch.from_numpy(logit(rate)) * learnt)
        model.head.weight.mul_(learnt[:, None])
