"""A run's fine-tuned categories on disk, one file each, so that a kill costs at most the one that was being tuned."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cxr_cft import __version__
from cxr_cft.artifacts import fingerprint, replacing
from cxr_cft.cft.category import Problem, Tuned
from cxr_cft.cft.choice import Gain

SAVE_EVERY = 10.0  # seconds between two states of a genetic search, which is what a kill can cost (assumed)

Arrays = dict[str, NDArray[Any]]


class Store:
    """RUN/cft: what has been found for a problem, category by category.

    `records` name the features that the problem was posed with; everything else that decides a result is taken from the
    problem itself. What was found for another problem is not found here.
    """

    def __init__(self, folder: Path, problem: Problem, records: Sequence[str]):
        self.folder = folder
        self.keys = [_key(problem, c, records) for c in range(len(problem.names))]

    def load(self, c: int) -> Tuned | None:
        """A category's result, None if there is none for this problem."""
        kept = _read(self._file(c), self.keys[c])
        if kept is None:
            return None
        arrays, row = kept
        gain = Gain(float(arrays["gain"]), arrays["without"])
        return Tuned(arrays["weight"], float(arrays["bias"]), json.loads(row), gain)

    def found(self, c: int) -> Tuned:
        """A category's result, which is there."""
        tuned = self.load(c)
        if tuned is None:
            raise RuntimeError(f"{self._file(c)} does not hold what was just written to it")
        return tuned

    def save(self, c: int, tuned: Tuned) -> None:
        """Keep a category's result; the state of its search is no longer needed."""
        arrays = {
            "weight": np.asarray(tuned.weight, dtype=np.float64),
            "bias": np.asarray(tuned.bias, dtype=np.float64),
            "gain": np.asarray(tuned.gain.value, dtype=np.float64),
            "without": tuned.gain.without,
        }
        _write(self._file(c), arrays, self.keys[c], json.dumps(tuned.row, default=float))
        self.memory(c).clear()

    def memory(self, c: int) -> SearchFile:
        """Where the genetic search for a category keeps its state."""
        return SearchFile(self.folder / f"{c:04d}.search.safetensors", self.keys[c])

    def _file(self, c: int) -> Path:
        return self.folder / f"{c:04d}.safetensors"


@dataclass
class SearchFile:
    """The state of a genetic search in a file, written every `SAVE_EVERY` seconds."""

    path: Path
    key: str
    saved: float = field(default_factory=time.monotonic)

    def load(self) -> Arrays | None:
        """The arrays kept last for this problem, None if there are none."""
        kept = _read(self.path, self.key)
        return None if kept is None else kept[0]

    def save(self, state: Callable[[], Arrays]) -> None:
        """Keep a state, if the last one has been kept for a while."""
        if time.monotonic() - self.saved >= SAVE_EVERY:
            _write(self.path, state(), self.key, "")
            self.saved = time.monotonic()

    def clear(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)


@cache
def _code() -> str:
    """The sha256 of the sources that decide a result: a checkout changes without its version doing so."""
    package = Path(__file__).parents[1]
    return fingerprint(
        *(file for part in ("cft", "metrics", "search") for file in sorted((package / part).glob("*.py")))
    )


def _key(problem: Problem, c: int, records: Sequence[str]) -> str:
    """The sha256 of all that decides a category's result."""
    digest = hashlib.sha256()
    told = {
        "version": __version__,
        "code": _code(),
        "torch": version("torch"),  # in whose last digits a search's directions lie
        "features": list(records),
        "category": [c, problem.names[c]],
        "methods": problem.methods,
        "metric": problem.metric,
        "seed": problem.seed,
        "options": asdict(problem.options),
    }
    digest.update(json.dumps(told).encode())
    for array in (
        problem.weight[c],
        problem.bias[c],
        problem.train.labels[:, c],
        problem.valid.labels[:, c],
        problem.groups.codes,
        problem.groups.blocks,
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _write(path: Path, arrays: Arrays, key: str, row: str) -> None:
    with replacing(path) as beside:
        contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        metadata = {"key": key, "row": row, "sha256": _sum(contiguous, row)}
        beside.write_bytes(save(contiguous, metadata=metadata))


def _read(path: Path, key: str) -> tuple[Arrays, str] | None:
    """The arrays and the row of a file of this key; None for another key's, and for a missing or damaged file."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    row = metadata.get("row")
    return None if row is None or metadata.get("sha256") != _sum(arrays, row) else (arrays, row)


def _sum(arrays: Arrays, row: str) -> str:
    """The sha256 of what a file holds: safetensors itself does not notice a changed number."""
    digest = hashlib.sha256(row.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
