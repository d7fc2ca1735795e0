"""Features and labels of a split as they come (numpy, torch, memory-mapped), and one category's known rows of them."""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ArrayOrTensor: TypeAlias = "NDArray[Any] | Tensor"

CHUNK_BYTES = 64 * 2**20  # of features that are looked at together (assumed)


@dataclass(frozen=True, eq=False)
class Rows:
    """Features (N, D) or (N, C, D) of any real dtype, and labels (N, C) with nan for unknown."""

    features: ArrayOrTensor
    labels: NDArray[np.float64]

    def __reduce__(self) -> tuple[Any, ...]:
        """Memory-mapped features are sent to another process as the place where they lie, for it to open."""
        features = self.features
        base: Any = getattr(features, "base", None)
        # A part of a mapped array does not know where in the file it begins, and changes to a copy-on-write one are not
        # in the file; these are sent as they are.
        whole = isinstance(base, mmap)
        if isinstance(features, np.memmap) and whole and features.flags.c_contiguous and features.mode != "c":
            where = str(features.filename), features.dtype.str, features.shape, features.offset
            return _mapped_rows, (*where, self.labels)
        return Rows, (features, self.labels)

    def known(self, category: int) -> NDArray[np.intp]:
        """The rows whose label of a category is known."""
        return np.flatnonzero(~np.isnan(self.labels[:, category]))

    def of(self, category: int, rows: NDArray[np.intp], device: torch.device) -> Tensor:
        """A category's features (n, D) float32 of some rows, newly made on `device`, read piece by piece."""
        gathered = torch.empty((len(rows), self.features.shape[-1]), device=device)
        for start, stop in pieces(len(rows), self.features.shape[-1]):
            index = rows[start:stop]
            own = self.features[index] if self.features.ndim == 2 else self.features[index, category]
            gathered[start:stop] = (
                own if isinstance(own, Tensor) else torch.from_numpy(own.astype(np.float32, copy=False))
            )
        return gathered


def _mapped_rows(path: str, dtype: str, shape: tuple[int, ...], offset: int, labels: NDArray[np.float64]) -> Rows:
    return Rows(np.memmap(path, dtype=dtype, mode="r", shape=shape, offset=offset), labels)


def checked_rows(name: str, rows: tuple[ArrayOrTensor, ArrayOrTensor], shape: tuple[int, ...]) -> Rows:
    """The rows of a split, for heads of `shape` (C, D).

    Raises:
        ValueError: shapes that do not fit, labels other than 1, 0 and nan, or features that are not finite.

    """
    features, labels = array_or_tensor(rows[0]), as_floats(rows[1])
    categories, dimension = shape
    if features.ndim not in (2, 3) or features.shape[1:] not in ((dimension,), (categories, dimension)):
        wanted = f"(N, {dimension}) or (N, {categories}, {dimension})"
        raise ValueError(f"{name} features must be {wanted}, but their shape is {tuple(features.shape)}")
    if labels.shape != (len(features), categories):
        raise ValueError(f"{name} labels must be ({len(features)}, {categories}), but their shape is {labels.shape}")
    if not (np.isnan(labels) | (labels == 0) | (labels == 1)).all():
        raise ValueError(f"{name} labels must be 1, 0 or nan for unknown")
    for start, stop in pieces(len(features), int(np.prod(features.shape[1:]))):
        piece = features[start:stop]
        if isinstance(piece, Tensor):
            finite = bool(torch.isfinite(piece.float()).all())
        else:
            with np.errstate(over="ignore"):
                finite = bool(np.isfinite(piece.astype(np.float32, copy=False)).all())
        if not finite:
            raise ValueError(f"{name} features must be finite as float32")
    return Rows(features, labels)


def array_or_tensor(values: ArrayOrTensor) -> ArrayOrTensor:
    """A tensor without its gradient, or an array; neither is copied."""
    return values.detach() if isinstance(values, Tensor) else np.asanyarray(values)


def as_floats(values: ArrayOrTensor) -> NDArray[np.float64]:
    """Values as a float64 array in memory; bfloat16 tensors too."""
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def pieces(rows: int, width: int) -> list[tuple[int, int]]:
    """Where to cut rows of `width` numbers, so that a piece is small beside the features."""
    step = max(1, CHUNK_BYTES // max(1, 4 * width))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]
