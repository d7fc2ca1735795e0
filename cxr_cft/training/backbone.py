"""Backbones from timm: by name, one grey channel in, features out; from scratch, downloaded, or from a local file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from cxr_cft.errors import RecipeError, did_you_mean
from cxr_cft.settings import ModelSettings


def create_backbone(settings: ModelSettings, *, load_pretrained: bool) -> nn.Module:
    """A timm model (N, 1, S, S) → (N, D), with the recipe's pretrained weights if `load_pretrained`.

    timm sums the three colours' filters of the first layer into one. Raises RecipeError for a name or arguments that
    timm does not know, and for weights that cannot be had or are not this backbone's.
    """
    if not timm.is_model(settings.backbone):
        raise RecipeError(
            f"model.backbone: timm has no model '{settings.backbone}'"
            f"{did_you_mean(settings.backbone, timm.list_models())}"
        )
    generator = torch.random.get_rng_state()
    try:
        scratch: nn.Module = timm.create_model(settings.backbone, num_classes=0, in_chans=1, **settings.args)
        with torch.no_grad():
            scratch.eval()(torch.zeros(1, 1, settings.image_size, settings.image_size))
    except Exception as error:
        # Name, arguments and size are the recipe's; timm raises whatever they led it to.
        raise RecipeError(
            f"model: timm's {settings.backbone} does not take {settings.image_size} px and model.args "
            f"{settings.args or '{}'}: {_first_line(error)}"
        ) from error
    if not (load_pretrained and settings.pretrained):
        return scratch
    torch.random.set_rng_state(generator)
    try:
        pretrained: nn.Module = timm.create_model(
            settings.backbone, pretrained=True, num_classes=0, in_chans=1, **_source(settings), **settings.args
        )
        _check_replaced(scratch, pretrained)
    except RecipeError:
        raise
    except Exception as error:
        # The same call without weights has just succeeded: what fails here is the download or the file.
        raise RecipeError(
            f"model.pretrained: no weights for {settings.backbone} could be loaded ({_first_line(error)}); "
            "give a local file or start from scratch: --set model.pretrained=false"
        ) from error
    return pretrained


def channel_average(backbone: nn.Module, statistic: str, fallback: float) -> float:
    """One number for a per-channel statistic ("mean", "std") of the images that timm's weights were trained on."""
    config = getattr(backbone, "pretrained_cfg", None) or {}
    values = config.get(statistic) or (fallback,)
    return float(sum(values) / len(values))


def _source(settings: ModelSettings) -> dict[str, Any]:
    """What makes timm take a local file's weights; they are read here, so that no pickled code can run."""
    if not isinstance(settings.pretrained, str):
        return {}
    path = Path(settings.pretrained)
    if not path.is_file():
        raise RecipeError(f"model.pretrained: there is no file {path}")
    if path.suffix == ".safetensors":
        weights: dict[str, Any] = dict(load_file(path))
    else:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):  # as training scripts wrap them
            weights = weights[key] if isinstance(weights.get(key), dict) else weights
    plain = {name.removeprefix("module."): weight for name, weight in weights.items()}
    return {"pretrained_cfg_overlay": {"state_dict": plain}}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_replaced(scratch: nn.Module, pretrained: nn.Module) -> None:
    """Both were drawn from the same random numbers: a matrix that is still equal was not in the file.

    timm passes over names that it does not know, so that the weights of another network would train from scratch
    unnoticed.
    """
    matrices = [
        (name, torch.equal(before, after))
        for (name, before), after in zip(scratch.named_parameters(), pretrained.parameters(), strict=True)
        if before.ndim > 1
    ]
    kept = [name for name, equal in matrices if equal]
    if kept:
        raise ValueError(f"{len(kept)} of {len(matrices)} weights are not in it, e.g. {kept[0]}")
