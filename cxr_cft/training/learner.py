"""One optimiser step, on one process or on many: forward, backward, update, and the state that a step hands on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import Tensor

from cxr_cft.errors import RecipeError
from cxr_cft.settings import Recipe
from cxr_cft.training.batches import StepBatches
from cxr_cft.training.losses import masked_bce
from cxr_cft.training.model import Classifier
from cxr_cft.training.optimiser import build_optimiser, learning_rate, set_learning_rate
from cxr_cft.training.processes import summed

Pieces = Iterator[tuple[Tensor, Tensor]]


class Learner:
    """A model that learns step by step from `batches`' views, whose targets and mask are (N, C).

    The loss of a step is the mean over all counting targets of its batch, whoever computes a part of it: neither the
    number of processes nor `accumulate` changes what is learnt, but for what a piece draws (dropout, mixup) and for
    batch norm, which sees a part at a time: on GPUs that of all processes, on CPUs that of each.
    """

    def __init__(
        self,
        model: Classifier,
        batches: StepBatches,
        targets: NDArray[np.float32],
        mask: NDArray[np.float32],
        recipe: Recipe,
    ):
        settings = recipe.training
        self.batches, self.settings, self.seed = batches, settings, recipe.seed
        self.steps = settings.epochs * batches.steps
        AcceleratorState._reset_state()  # one process trains several recipes, each with its own precision
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision=resolved_precision(settings.precision)
        )
        self.device = self.accelerator.device
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.model = model.to(self.device).to(memory_format=layout)
        if batches.processes > 1 and self.device.type == "cuda":
            convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        self.average = ModelEmaV3(self.model, settings.ema, use_warmup=True) if settings.ema else None
        self.optimiser = self.accelerator.prepare_optimizer(build_optimiser(self.model, settings))
        self.parallel = self.accelerator.prepare_model(self.model)  # the model itself where one process trains
        # Accelerate has put autocast around the model's own forward, where validation would take it too, and bf16
        # logits tie: taken off again, as a step opens it itself.
        self.accelerator.unwrap_model(self.parallel, keep_fp32_wrapper=False)
        self.network = torch.compile(self.parallel) if settings.compile else self.parallel
        smooth = settings.label_smoothing
        self.targets = torch.from_numpy(targets * np.float32(1 - smooth) + np.float32(smooth / 2))
        self.mask = torch.from_numpy(mask)

    def step(self, epoch: int, step: int, pieces: Pieces) -> Tensor:
        """Learn from one batch, whose pieces come next; returns its loss, that of all processes together."""
        place = epoch * self.batches.steps + step
        set_learning_rate(self.optimiser, self.rate(place))
        total = self.mask[self.batches.of_step(step)].sum().clamp(min=1.0)
        loss = torch.zeros((), device=self.device)
        for part in range(self.settings.accumulate):
            images, rows = next(pieces)
            # Whatever the piece draws (dropout, stochastic depth, mixup) follows from its place: nothing of it must be
            # saved, and a resumed step repeats itself.
            draws = np.random.SeedSequence([self.seed, epoch, step, part, self.batches.process])
            torch.manual_seed(int(draws.generate_state(1)[0]))
            counts = len(self.batches.share(step, part)) > 0
            last = part == self.settings.accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(self.parallel):
                loss += self._piece(images, rows, total, np.random.default_rng(draws), counts=counts)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.average is not None:
            self.average.update(self.model, place + 1)
        return summed(loss)

    def _piece(self, images: Tensor, rows: Tensor, total: Tensor, rng: np.random.Generator, *, counts: bool) -> Tensor:
        """Forward and backward; returns what the piece adds to the batch's loss."""
        images = images.to(self.device, non_blocking=True)
        targets = self.targets[rows].to(self.device, non_blocking=True)
        mask = self.mask[rows].to(self.device, non_blocking=True) * counts
        share, partner = 1.0, None
        if self.settings.mixup:
            share = float(rng.beta(self.settings.mixup, self.settings.mixup))
            partner = torch.from_numpy(rng.permutation(len(rows))).to(self.device)
            images = share * images.float() + (1 - share) * images[partner].float()
        with self.accelerator.autocast():
            logits = self.network(images)
        loss = share * masked_bce(logits, targets, mask, total)
        if partner is not None:
            loss = loss + (1 - share) * masked_bce(logits, targets[partner], mask[partner], total)
        # Gradients are averaged over the processes, but the loss is a sum over them.
        self.accelerator.backward(loss * self.batches.processes)
        return loss.detach()

    def rate(self, place: int) -> float:
        """The head's learning rate in a step, counted from 0 over all epochs."""
        return learning_rate(self.settings, place, self.steps)

    @property
    def evaluated(self) -> Classifier:
        """The network that is validated and kept: the moving average where there is one."""
        found: Classifier = self.model if self.average is None else self.average.module
        return found

    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())

    def state(self) -> dict[str, Any]:
        """All that the next step needs but its number."""
        scaler = self.accelerator.scaler
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:  # none where precision was changed
            self.accelerator.scaler.load_state_dict(state["scaler"])


def resolved_precision(wanted: str) -> str:
    """The autocast of `training.precision` on this machine. Raises RecipeError for fp16 without a GPU."""
    if wanted == "fp16" and not torch.cuda.is_available():
        raise RecipeError("training.precision = fp16 needs a GPU; bf16, no and auto do without")
    if wanted == "auto":
        return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return wanted
