"""One pass of a model over a table: logits or features of every view, in the table's order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr_cft.artifacts import Run
from cxr_cft.data.loader import OrderedBatches, Views, loader, read_batches
from cxr_cft.data.table import Table
from cxr_cft.progress import SILENT, Progress
from cxr_cft.settings import Recipe
from cxr_cft.training.model import load_model


def default_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def over_table(
    function: Callable[[Tensor], Tensor],
    table: Table,
    recipe: Recipe,
    device: torch.device,
    description: str,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """`function` of every view (uint8 images (B, 1, S, S) on `device` → (B, K)), as one (N, K) array.

    The function's module must be in evaluation mode. Raises DataError for an image that cannot be read.
    """
    views = Views(table, recipe.model.image_size)
    # Without a backward pass twice the training batch fits wherever training did.
    batches = OrderedBatches(len(table), 2 * recipe.training.batch_size)
    parts = []
    with torch.inference_mode():
        reading = read_batches(loader(views, batches, recipe.training.workers))
        for images, _ in progress.track(reading, description, len(batches), "batches"):
            parts.append(function(images.to(device, non_blocking=True)).float().cpu().numpy())
    return np.concatenate(parts)


def predict_logits(run: Run, table: Table, progress: Progress = SILENT) -> NDArray[np.float32]:
    """A run's logits (N, C) of a table's views, by the heads that CFT tuned where it has."""
    device = default_device()
    model = load_model(run, tuned=run.tuned() is not None).to(device)
    recipe = Recipe.model_validate(run.info["recipe"])
    return over_table(model, table, recipe, device, f"predicting with {run.name}", progress)
