"""One pass of a model over a table into a file, which a killed pass goes on with."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr_cft.artifacts import locked, make_folder, npy_header, read_json, write_json, writing
from cxr_cft.data.table import Table
from cxr_cft.errors import CxrCftError
from cxr_cft.progress import SILENT, Progress
from cxr_cft.settings import Recipe
from cxr_cft.training.inference import each_batch, inference_batch, ordered_loader

_GOES_ON = "; make room and repeat the command, it goes on where it was"
FLUSH_SECONDS = 10.0  # the most work that a kill costs (assumed)


def pass_into_file(
    function: Callable[[Tensor], Tensor],
    width: int,
    table: Table,
    recipe: Recipe,
    device: torch.device,
    path: Path,
    key: Mapping[str, Any],
    description: str,
    progress: Progress = SILENT,
) -> str:
    """`over_table` into a .npy (N, `width`) that memory need not hold; returns the file's sha256.

    `key` says, as JSON can, what decides the results. Killed at any point, the next call of the same key goes on behind
    the last rows that were surely on disk, with the same batches and so to the same bytes; rows of another key, or that
    are no longer as they were written, are computed anew. `unfinished(path)` lies beside the file until the caller has
    taken it. Raises DataError for an image that cannot be read, CxrCftError where the disk is full.
    """
    make_folder(path.parent)
    with locked(path, f"{path} is being written by another process; wait until that is done") as file:
        rows = _Rows(path, file, {"key": dict(key), "by": _arithmetic(recipe, device)}, (len(table), width))
        if rows.count:
            progress.note(f"{description}: going on after view {rows.count:,} of {len(table):,}")
        rest = table.take(np.arange(len(table)) >= rows.count)
        if len(rest):
            for batch in each_batch(function, ordered_loader(rest, recipe), device, description, progress):
                rows.append(batch)
        rows.flush()
    return rows.digest.hexdigest()


def unfinished(path: Path) -> Path:
    """The record beside a file that `pass_into_file` writes: its key, and how many rows are surely on disk."""
    return path.with_suffix(".json")


class _Rows:
    """An array (N, D) float32 in a file to which rows are appended, and a record of how many are surely on disk.

    By plain writes: on a full disk a write to mapped memory kills the process, a plain one raises.
    """

    def __init__(self, path: Path, file: io.FileIO, what: dict[str, Any], shape: tuple[int, int]):
        self.path, self.file, self.what = path, file, what
        self.count = 0
        self.digest = hashlib.sha256()
        self.flushed = time.monotonic()
        with writing(path):
            self._resume(npy_header(shape, np.float32), 4 * shape[1])

    def _resume(self, header: bytes, row: int) -> None:
        """Keep the recorded rows, of `row` bytes each, if they are as they were written; else begin with the header."""
        record: dict[str, Any] = {}
        with suppress(CxrCftError):  # none, or a damaged one
            record = read_json(unfinished(self.path))
        if all(record.get(part) == self.what[part] for part in self.what):
            size = len(header) + record["rows"] * row
            digest = _digest(self.file, size)
            if digest.hexdigest() == record["sha256"]:
                self.count, self.digest = record["rows"], digest
                self.file.truncate(size)
                return
        unfinished(self.path).unlink(missing_ok=True)
        self.file.truncate(0)
        self._write(header)

    def append(self, results: NDArray[np.float32]) -> None:
        """Write a batch (B, D), and now and then wait until the disk has it."""
        with writing(self.path, _GOES_ON):
            self._write(np.ascontiguousarray(results).tobytes())
        self.count += len(results)
        if time.monotonic() - self.flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Wait until the disk has everything, and record it."""
        with writing(self.path, _GOES_ON):
            os.fsync(self.file.fileno())
        write_json(unfinished(self.path), {**self.what, "rows": self.count, "sha256": self.digest.hexdigest()})
        self.flushed = time.monotonic()

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[self.file.write(rest) :]  # a disk that fills up takes a part before it refuses
        self.digest.update(content)


def _digest(file: io.FileIO, size: int) -> Any:
    """The running sha256 of a file's first `size` bytes, of fewer where it is shorter."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest


def _arithmetic(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """What decides the last bits of a result beside its key: half a pass is only continued as it began."""
    return {"device": device.type, "batch": inference_batch(recipe), "torch": version("torch")}
