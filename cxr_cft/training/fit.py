"""The epoch loop: train, validate, keep the best weights, write a checkpoint from which a killed run goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from timm.optim import param_groups_weight_decay
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.tensorboard import SummaryWriter

from cxr_cft.data.labels import known_labels
from cxr_cft.data.loader import ShuffledBatches, Views, loader, read_batches
from cxr_cft.data.studies import aggregate_views
from cxr_cft.data.table import Table
from cxr_cft.errors import RecipeError, RunError
from cxr_cft.metrics import auroc, per_category
from cxr_cft.progress import Progress
from cxr_cft.settings import Recipe
from cxr_cft.training.checkpoint import Checkpoint, Standing
from cxr_cft.training.inference import ordered_loader, over_batches
from cxr_cft.training.losses import masked_bce
from cxr_cft.training.model import Classifier


@dataclass(frozen=True, eq=False)
class Task:
    """What is learnt: training views with their targets and mask (N, C), and the views that validate."""

    train: Table
    targets: NDArray[np.float32]
    mask: NDArray[np.float32]
    valid: Table
    fingerprint: str


def fit(model: Classifier, task: Task, recipe: Recipe, run: Path, progress: Progress) -> Standing:
    """Train `model` in place and leave the weights of the best epoch in it.

    The best epoch has the highest mean AUROC over the validation studies' defined categories. After each epoch
    RUN/checkpoint is written; where one is there already, training goes on from it. Raises RunError when the loss is
    no longer finite.
    """
    fitting = _Fitting(model, task, recipe, run, progress)
    fitting.resume()
    while fitting.standing.epochs < recipe.training.epochs:
        loss = fitting.train_epoch()
        scores = fitting.validate()
        fitting.record(loss, scores)
        fitting.save()
    return fitting.finish()


class _Fitting:
    """One training, as named steps over shared state."""

    def __init__(self, model: Classifier, task: Task, recipe: Recipe, run: Path, progress: Progress):
        settings = recipe.training
        self.task, self.recipe, self.progress = task, recipe, progress
        AcceleratorState._reset_state()  # one process trains several recipes, each with its own precision
        self.accelerator = Accelerator(mixed_precision=_precision(settings.precision))
        self.device = self.accelerator.device
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.model = model.to(self.device).to(memory_format=layout)
        self.batches = ShuffledBatches(len(task.train), settings.batch_size, recipe.seed)
        views = Views(task.train, recipe.model.image_size, recipe.augment)
        self.loader = loader(views, self.batches, settings.workers)
        self.validation = ordered_loader(task.valid, recipe)
        groups = param_groups_weight_decay(self.model, settings.weight_decay)
        self.optimizer = self.accelerator.prepare_optimizer(AdamW(groups, lr=settings.lr))
        steps = settings.epochs * len(self.batches)
        self.schedule = LambdaLR(self.optimizer.optimizer, partial(_learning_rate, steps=steps, warmup=settings.warmup))
        self.targets, self.mask = torch.from_numpy(task.targets), torch.from_numpy(task.mask)
        self.checkpoint = Checkpoint(run)
        self.standing = Standing()
        self.board = run / "tensorboard"

    def resume(self) -> None:
        """Take up the last epoch's state, if there is one."""
        if not self.checkpoint.exists():
            return
        self.standing, state = self.checkpoint.load(self.recipe, self.task.fingerprint)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.progress.note(f"going on after epoch {self.standing.epochs} of {self.recipe.training.epochs}")

    def train_epoch(self) -> float:
        """One pass over the training views; returns the mean loss."""
        epoch = self.batches.epoch = self.standing.epochs
        self.model.train()
        total = torch.zeros((), device=self.device)
        description = f"epoch {epoch + 1}/{self.recipe.training.epochs}"
        with torch.random.fork_rng():
            # Dropout draws from the global generator; seeded by (seed, epoch), a resumed epoch repeats itself.
            torch.manual_seed(int(np.random.SeedSequence([self.recipe.seed, epoch]).generate_state(1)[0]))
            batches = read_batches(self.loader)
            for images, rows in self.progress.track(batches, description, len(self.batches), "batches"):
                total += self._step(images, rows) * len(rows)
        loss = float(total) / len(self.task.train)
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}")
        return loss

    def _diverged(self, what: str) -> RunError:
        lr = self.recipe.training.lr
        return RunError(f"in epoch {self.standing.epochs + 1} {what}; try a lower training.lr than {lr:g}")

    def _step(self, images: Tensor, rows: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        with self.accelerator.autocast():
            logits = self.model(images)
        loss = masked_bce(logits, self.targets[rows].to(self.device), self.mask[rows].to(self.device))
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        return loss.detach()

    def validate(self) -> NDArray[np.float64]:
        """AUROC (C,) over the validation studies; nan where a category has not both classes."""
        self.model.eval()
        # Without autocast: bf16 logits tie, and ties would choose the epoch.
        logits = over_batches(self.model, self.validation, self.device, "  validation", self.progress)
        if not np.isfinite(logits).all():
            raise self._diverged("the validation logits are not finite")
        _, labels = self.task.valid.study_labels()
        _, scores = aggregate_views(self.task.valid.paths, logits.astype(np.float64))
        return per_category(auroc, known_labels(labels), scores)

    def record(self, loss: float, scores: NDArray[np.float64]) -> None:
        """Add the epoch to the history, and keep its weights if they are the best yet."""
        standing = self.standing
        standing.epochs += 1
        mean = float(np.nanmean(scores))
        best = mean > standing.best_score
        if best:
            standing.best_epoch, standing.best_score = standing.epochs, mean
            self.checkpoint.save_best(standing.best_epoch, self.model.state_dict())
        auroc_by_category = {
            category: None if math.isnan(score) else float(score)
            for category, score in zip(self.task.valid.categories, scores, strict=True)
        }
        learning_rate = self.schedule.get_last_lr()[0]
        standing.history.append(
            {
                "epoch": standing.epochs,
                "loss": loss,
                "lr": learning_rate,
                "mean_auroc": mean,
                "auroc": auroc_by_category,
            }
        )
        with SummaryWriter(str(self.board), purge_step=standing.epochs) as board:
            board.add_scalar("loss/train", loss, standing.epochs)
            board.add_scalar("auroc/mean", mean, standing.epochs)
            for category, score in auroc_by_category.items():
                if score is not None:
                    board.add_scalar(f"auroc/{category}", score, standing.epochs)
        self.progress.note(
            f"epoch {standing.epochs}/{self.recipe.training.epochs}: loss {loss:.4f}, "
            f"validation mean AUROC {mean:.4f}{' (best)' if best else ''}"
        )

    def save(self) -> None:
        """Write the checkpoint."""
        scaler = self.accelerator.scaler
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        self.checkpoint.save(self.standing, self.recipe, self.task.fingerprint, state)

    def finish(self) -> Standing:
        """Put the best epoch's weights into the model."""
        self.model.load_state_dict(self.checkpoint.best(self.standing.best_epoch))
        self.model.eval()
        return self.standing


def _learning_rate(step: int, steps: int, warmup: float) -> float:
    """The share of the peak learning rate: a cosine up from 1/25 in the first `warmup` of the steps, and down to 0.

    The shape is Smith & Topin's one cycle (arXiv 1708.07120) as torch draws it, for any number of steps.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return 1.0 - (1.0 - 1 / 25) * (1 + math.cos(math.pi * step / rising)) / 2
    return (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising)))) / 2


def _precision(wanted: str) -> str:
    if wanted == "fp16" and not torch.cuda.is_available():
        raise RecipeError("training.precision = fp16 needs a GPU; bf16, no and auto do without")
    if wanted == "auto":
        return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    return wanted
