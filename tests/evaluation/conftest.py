"""Made studies whose scores are neither perfect nor useless, and the two CSVs that a competition compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cxr_cft.data import COMPETITION


@dataclass
class Entry:
    """Studies with labels (S, 5) and scores (S, 5), and where they are written."""

    folder: Path
    studies: list[str]
    labels: np.ndarray
    scores: np.ndarray

    def write(self, name: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
        """Any CSV beside the others."""
        lines = [",".join(map(str, row)) for row in [header, *rows]]
        (self.folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return self.folder / name

    def truth(self) -> Path:
        """The labels, a row a study, nan left blank."""
        rows = [
            [study, *("" if np.isnan(label) else label for label in labels)]
            for study, labels in zip(self.studies, self.labels.tolist(), strict=True)
        ]
        return self.write("labels.csv", ["Study", *COMPETITION], rows)

    def predictions(self) -> Path:
        """The scores in the competition's own format."""
        rows = [[study, *scores] for study, scores in zip(self.studies, self.scores.tolist(), strict=True)]
        return self.write("predictions.csv", ["Study", *COMPETITION], rows)


@pytest.fixture
def make_entry(tmp_path) -> Callable[..., Entry]:
    """An entry for a number of patients, one study each."""

    def make(patients: int = 80, seed: int = 0) -> Entry:
        rng = np.random.default_rng(seed)
        labels = (rng.random((patients, 5)) < 0.3).astype(float)
        scores = np.round(rng.normal(size=(patients, 5)) + labels, 6)
        return Entry(tmp_path, [f"data/valid/patient{n:05}/study1" for n in range(patients)], labels, scores)

    return make


@pytest.fixture
def entry(make_entry) -> Entry:
    """Eighty patients, one study each."""
    return make_entry()
