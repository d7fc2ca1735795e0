"""A small data folder in CheXpert's layout, made by hand: every label state, two splits, two views in one study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TRAIN = """\
Path,Sex,Frontal/Lateral,Edema,Cardiomegaly
films/train/patient1/study1/view1_frontal.jpg,Male,Frontal,1.0,0.0
films/train/patient1/study1/view2_lateral.jpg,Male,Lateral,,-1.0
films/train/patient1/study2/view1_frontal.jpg,Male,Frontal,0.0,
films/train/patient2/study1/view1_frontal.jpg,Female,Frontal,-1.0,1.0
"""

VALID = """\
Path,Sex,Frontal/Lateral,Edema,Cardiomegaly
films/valid/patient3/study1/view1_frontal.jpg,Male,Frontal,1.0,0.0
films/valid/patient4/study1/view1_frontal.jpg,Male,Frontal,0.0,1.0
"""


def write_films(root: Path, text: str, side: int = 48) -> None:
    """An image of noise for every row of a CSV whose paths begin with the root's own name."""
    for number, line in enumerate(text.splitlines()[1:]):
        file = root.parent / line.split(",")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(file, quality=95)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A data folder `films` with train.csv, valid.csv and every image."""
    root = tmp_path / "films"
    for split, text in (("train", TRAIN), ("valid", VALID)):
        write_films(root, text)
        (root / f"{split}.csv").write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    """Write text, or lines that end with a newline each, or bytes, to a CSV and give its path."""

    def write(content: str | bytes | Sequence[str], name: str = "given.csv") -> Path:
        file = tmp_path / name
        if not isinstance(content, (str, bytes)):
            content = "".join(f"{line}\n" for line in content)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write
