"""What a search that was interrupted goes on from: the searches on parts of the studies that were done."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cxr_cft.artifacts import replacing
from cxr_cft.ensemble import finders
from cxr_cft.ensemble.finders import Found
from cxr_cft.ensemble.problem import FOLDS, Problem

_DAMAGE = (OSError, ValueError, LookupError, EOFError, RuntimeError, MemoryError, BadZipFile)
"""What reading a file raises that is none, is cut off, or has wrong bits."""


class KeptSearches(dict[str, Found]):
    """Searches by their names, in memory and in a file that is written anew after each.

    A file of another problem, of another version or damaged is as good as none.
    """

    def __init__(self, path: Path, problem: Problem) -> None:
        super().__init__()
        self.path, self.identity = path, _identity(problem)
        self.update(self._read())

    def __setitem__(self, name: str, found: Found) -> None:
        super().__setitem__(name, found)
        arrays = {"identity": np.array(self.identity)}
        for each, kept in self.items():
            arrays |= {f"{each} {finder}": weights for finder, weights in kept.weights.items()}
            arrays[f"{each} counted"] = kept.counted
        with replacing(self.path) as beside, beside.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its own keywords are no names of ours

    def _read(self) -> dict[str, Found]:
        read: dict[str, dict[str, np.ndarray]] = {}
        try:
            with self.path.open("rb") as opened:  # which numpy would leave open where it is no archive
                file = np.load(opened, allow_pickle=False)
                if str(file["identity"]) != self.identity:
                    return {}
                for key in set(file.files) - {"identity"}:
                    name, _, part = key.rpartition(" ")
                    read.setdefault(name, {})[part] = file[key]
            return {name: Found(weights=parts, counted=parts.pop("counted")) for name, parts in read.items()}
        except _DAMAGE:
            return {}


def _identity(problem: Problem) -> str:
    """What a search hangs on: every score, label and setting, and the code's version."""
    sizes = (finders.BAGS, finders.BAG_STUDIES, finders.POPULATION, finders.GENERATIONS, finders.GREEDY_STEPS)
    settings = (version("cxr-cft"), problem.seed, problem.scored, FOLDS, sizes)
    digest = hashlib.sha256(json.dumps(settings).encode())
    for how, scores in sorted(problem.scores.items()):
        digest.update(f"{how} {scores.shape}".encode() + np.ascontiguousarray(scores).tobytes())
    digest.update(problem.labels.tobytes() + problem.patients.tobytes())
    return digest.hexdigest()
