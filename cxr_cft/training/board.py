"""TensorBoard's curves and a page of training inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from cxr_cft.artifacts import writing
from cxr_cft.data.loader import Views

SHOWN = 8  # inputs in a row of the page
_GO_ON = "; make room and go on by --resume"


class Board:
    """RUN/tensorboard: written epoch by epoch, so that a resumed training overwrites what a killed one had begun."""

    def __init__(self, run: Path):
        self.folder = run / "tensorboard"

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve; values that are not finite are left out."""
        with writing(self.folder, _GO_ON), SummaryWriter(str(self.folder), purge_step=number) as board:
            for name, value in values.items():
                if math.isfinite(value):
                    board.add_scalar(name, value, number)

    def inputs(self, plain: Views, augmented: Views, indices: list[tuple[int, int]]) -> None:
        """A page of training inputs: in turn a row as they are on disk, and a row as they are learnt from."""
        pictures = []
        for start in range(0, len(indices), SHOWN):
            row = indices[start : start + SHOWN]
            for views in (plain, augmented):
                images = [views[index][0] for index in row]
                pictures += images + [torch.zeros_like(images[0])] * (SHOWN - len(row))
        with writing(self.folder, _GO_ON), SummaryWriter(str(self.folder), purge_step=0) as board:
            board.add_image("inputs/plain_above_augmented", make_grid(pictures, nrow=SHOWN), 0)
