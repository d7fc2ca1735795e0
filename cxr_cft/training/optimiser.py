"""The optimiser of a recipe, and its learning rate at every step."""

from __future__ import annotations

import math
from typing import Any

from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch.optim import SGD, AdamW, Optimizer

from cxr_cft.settings import TrainingSettings
from cxr_cft.training.model import Classifier

MOMENTUM = 0.9  # of SGD: what nearly everyone takes, Huang et al. 2017 (DenseNet) among them


def build_optimiser(model: Classifier, settings: TrainingSettings) -> Optimizer:
    """AdamW or SGD over the model's parameters; biases and norms do not decay.

    With `layer_decay` below 1 the layers of the backbone, as timm counts them, learn the slower the nearer they are to
    the image (Clark et al. 2020, arXiv 2003.10555); the head learns at the full rate.
    """
    if settings.layer_decay < 1:
        groups = param_groups_layer_decay(model.backbone, settings.weight_decay, layer_decay=settings.layer_decay)
        groups += param_groups_weight_decay(model.head, settings.weight_decay)
    else:
        groups = param_groups_weight_decay(model, settings.weight_decay)
    if settings.optimizer == "sgd":
        return SGD(groups, lr=settings.lr, momentum=MOMENTUM, nesterov=True)
    return AdamW(groups, lr=settings.lr, fused=next(model.parameters()).is_cuda or None)


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """The head's learning rate at a step, counted from 0, of `steps`.

    It follows from the step alone, so that nothing of it must be saved, and a training that goes on with another `lr`
    has it from its first step.
    """
    return settings.lr * rate_share(settings.schedule, step, steps, settings.warmup)


def set_learning_rate(optimiser: Any, rate: float) -> None:
    """Give the head this rate, and each layer its share of it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def rate_share(schedule: str, step: int, steps: int, warmup: float) -> float:
    """The share of the peak learning rate at a step, counted from 0, of `steps`.

    Both rise in the first `warmup` of the steps and fall along a cosine to 0 at the end: "one_cycle" rises along a
    cosine from 1/25 (Smith & Topin, arXiv 1708.07120, as torch draws it), "cosine" along a line from 0 (Loshchilov &
    Hutter, arXiv 1608.03983, with the warm-up of Goyal et al., arXiv 1706.02677), reaching the peak a step after it.
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        if schedule == "cosine":
            return (step + 1) / (rising + 1)
        return 1.0 - (1.0 - 1 / 25) * (1 + math.cos(math.pi * step / rising)) / 2
    return (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising)))) / 2
