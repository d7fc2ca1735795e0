"""What is in a data folder: label states per category, studies and patients per split, leakage, unreadable files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr_cft.data.images import read_image
from cxr_cft.data.labels import CATEGORIES, NEGATIVE, POSITIVE, UNCERTAIN
from cxr_cft.data.splits import shared_patients
from cxr_cft.data.table import SPLITS, Table, data_folder, read_frame, read_table
from cxr_cft.progress import SILENT, Progress

SIDE = 64  # pixels to which an image is reduced to see whether it can be read (assumed)


@dataclass(frozen=True)
class SplitFacts:
    """One split: its size, and per category the number of positive, negative, uncertain and blank labels."""

    rows: int
    studies: int
    patients: int
    views: dict[str, int]
    states: dict[str, tuple[int, int, int, int]]
    missing: list[str]
    unreadable: dict[str, str]


@dataclass(frozen=True)
class Inspection:
    """A data folder's facts; `shared` holds the patients that two splits have in common."""

    root: Path
    splits: dict[str, SplitFacts]
    shared: dict[tuple[str, str], list[str]]


def inspect_folder(root: Path, progress: Progress = SILENT, *, image_root: Path | None = None) -> Inspection:
    """Read every CSV and decode every image of a data folder.

    Columns that CheXpert does not have are passed over; of its 14, those that a CSV has are counted. Raises DataError
    for a folder without the CSVs and for a label that is none.
    """
    root = data_folder(root)
    tables = {}
    for split in SPLITS:
        source = root / f"{split}.csv"
        if source.is_file():
            present = set(read_frame(source).columns)
            categories = [name for name in CATEGORIES if name in present]
            tables[split] = read_table(source, root, categories, image_root=image_root)
    facts = {split: _facts(split, table, progress) for split, table in tables.items()}
    return Inspection(root, facts, shared_patients(tables))


def _facts(split: str, table: Table, progress: Progress) -> SplitFacts:
    missing, unreadable = [], {}
    for row in progress.track(range(len(table)), f"reading {split}", len(table), "images"):
        file = table.file(row)
        if not file.is_file():
            missing.append(table.paths[row])
            continue
        try:
            read_image(file, SIDE)
        except OSError as error:
            unreadable[table.paths[row]] = str(error)
    states = {}
    for column, category in enumerate(table.categories):
        raw = table.labels[:, column]
        states[category] = (
            int((raw == POSITIVE).sum()),
            int((raw == NEGATIVE).sum()),
            int((raw == UNCERTAIN).sum()),
            int(np.isnan(raw).sum()),
        )
    views = Counter(view for view in table.views if view)
    return SplitFacts(
        len(table), len(set(table.studies)), len(set(table.patients)), dict(views), states, missing, unreadable
    )
