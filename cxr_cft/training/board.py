"""TensorBoard's curves and a page of training inputs."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import image, scalar
from torchvision.utils import make_grid

from cxr_cft.artifacts import replacing
from cxr_cft.data.loader import Views
from cxr_cft.training.faults import advised

SHOWN = 8  # inputs in a row of the page


class Board:
    """RUN/tensorboard: a file an epoch, whole or not there, which a repeated epoch replaces.

    Not by torch's SummaryWriter: its thread meets a full disk with a traceback of its own.
    """

    def __init__(self, run: Path):
        self.folder = run / "tensorboard"

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve; values that are not finite are left out."""
        self._write(number, (scalar(name, value) for name, value in values.items() if math.isfinite(value)))  # type: ignore[no-untyped-call]

    def inputs(self, plain: Views, augmented: Views, indices: list[tuple[int, int]]) -> None:
        """A page of training inputs: in turn a row as they are on disk, and a row as they are learnt from."""
        pictures = []
        for start in range(0, len(indices), SHOWN):
            row = indices[start : start + SHOWN]
            for views in (plain, augmented):
                images = [views[index][0] for index in row]
                pictures += images + [torch.zeros_like(images[0])] * (SHOWN - len(row))
        self._write(0, [image("inputs/plain_above_augmented", make_grid(pictures, nrow=SHOWN), dataformats="CHW")])  # type: ignore[no-untyped-call]

    def _write(self, step: int, summaries: Iterable[Any]) -> None:
        buffer = io.BytesIO()
        records = RecordWriter(buffer)
        records.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for summary in summaries:
            records.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
        with advised(), replacing(self.folder / f"events.out.tfevents.{step:010d}") as beside:
            beside.write_bytes(buffer.getvalue())
