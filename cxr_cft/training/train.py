"""From a data folder and a recipe to a complete run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from cxr_cft.artifacts import (
    Run,
    check_name,
    fingerprint,
    library_versions,
    make_folder,
    open_run,
    write_csv,
    write_json,
)
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
from cxr_cft.training.inference import arithmetic_threads, over_table
from cxr_cft.training.model import Classifier, build_model, save_tensors


def train_run(
    recipe: Recipe,
    name: str,
    root: Path,
    weights: Path,
    *,
    image_root: Path | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """Train one backbone on a data folder and write `weights/name`, complete or to be resumed.

    `image_root` is a folder that the CSVs' paths continue, where it is neither the data folder nor the one above.

    Raises RunError if that run is complete, or unfinished and `resume` is not asked for; DataError and RecipeError for
    data or settings that cannot be used, before anything is written.
    """
    check_name(name)
    folder = weights / name
    _check_free(folder, resume=resume)
    splits, task = _data(recipe, root, image_root, progress)
    model = build_model(recipe, len(task.train.categories))
    _start_head(model, task)
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    progress.note(
        f"training {name}: {recipe.model.backbone} ({size:.1f} million parameters) on {len(task.train)} views "
        f"at {recipe.model.image_size} px"
    )
    make_folder(folder)
    with arithmetic_threads(recipe):
        standing = fit(model, task, recipe, folder, progress)
        _finish(Run(folder, {}), model, splits, recipe, progress)
    write_json(
        folder / "run.json",
        {
            "recipe": recipe.model_dump(mode="json"),
            "categories": list(task.train.categories),
            "unlearnt": _unlearnt(task),
            "preprocessing": preprocessing(recipe.model.image_size),
            "data": {
                "root": str(root.resolve()),
                "image_root": str(image_root.resolve()) if image_root else None,
                "fingerprint": task.fingerprint,
            },
            "metrics": {
                "best_epoch": standing.best_epoch,
                "valid_mean_auroc": standing.best_score,
                "valid_note": "the epoch was chosen on these studies: optimistic",
            },
            "versions": library_versions(),
            "files": {"model.safetensors": fingerprint(folder / "model.safetensors")},
        },
    )
    Checkpoint(folder).remove()
    return open_run(folder)


def _check_free(folder: Path, *, resume: bool) -> None:
    if (folder / "run.json").exists():
        raise RunError(f"run {folder} is complete; choose another --name, or delete it to train it again")
    if Checkpoint(folder).exists() and not resume:
        raise RunError(f"run {folder} is unfinished; go on with it by --resume, or choose another --name")


def _data(recipe: Recipe, root: Path, image_root: Path | None, progress: Progress) -> tuple[dict[str, Table], Task]:
    """The splits, training views without the patients of the others, and what is to be learnt from them."""
    categories = chosen_categories(recipe.labels)
    splits = read_splits(root, categories, image_root)
    everyone = splits["train"]
    splits["train"] = train = without_patients(everyone, [part for name, part in splits.items() if name != "train"])
    if len(train) < len(everyone):
        progress.note(f"left out {len(everyone) - len(train)} training views of patients who are in other splits")
    task = _task(train, splits["valid"], recipe)
    for table in splits.values():
        check_images(table)
    if unlearnt := _unlearnt(task):
        progress.note(f"no known label in {train.source.name}, so predicted as a constant: {', '.join(unlearnt)}")
    return splits, task


def _task(train: Table, valid: Table, recipe: Recipe) -> Task:
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
    return Task(train, targets, mask, valid, fingerprint(train.source, valid.source))


def _unlearnt(task: Task) -> list[str]:
    """The categories that no training view has a known label of."""
    return [name for name, mask in zip(task.train.categories, task.mask.T, strict=True) if not mask.any()]


def _finish(run: Run, model: Classifier, splits: dict[str, Table], recipe: Recipe, progress: Progress) -> None:
    """Write the weights, who was in which split, and the predictions of every split but training."""
    save_tensors(run.model_file, model.state_dict())
    rows = ((path, split) for split, table in splits.items() for path in table.paths)
    write_csv(run.path / "split.csv", ["Path", "split"], rows)
    device = next(model.parameters()).device
    for split, table in splits.items():
        if split != "train":
            logits = over_table(model, table, recipe, device, f"predicting {split}", progress)
            write_logits(run.predictions(split, tuned=False), table, logits)


def _start_head(model: Classifier, task: Task) -> None:
    """Start each category at its rate of positive targets; one that nothing is learnt for stays the constant 0.5."""
    counted: NDArray[np.float32] = task.mask.sum(axis=0)
    # Half a pseudo-count of each kind keeps a category with one kind of target finite.
    rate = ((task.targets * task.mask).sum(axis=0) + 0.5) / (counted + 1.0)
    learnt = torch.from_numpy(counted > 0)
    with torch.no_grad():
        model.head.bias.copy_(torch.from_numpy(logit(rate)) * learnt)
        model.head.weight.mul_(learnt[:, None])
