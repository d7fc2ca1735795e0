"""The splits of a data folder: which there are, and patients that two of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cxr_cft.data.table import SPLITS, Table, data_folder, read_table


def read_splits(root: Path, categories: Sequence[str], image_root: Path | None = None) -> dict[str, Table]:
    """Read train.csv, valid.csv and, where there is one, test.csv of a data folder. Raises DataError."""
    root = data_folder(root)
    sources = {split: root / f"{split}.csv" for split in SPLITS}
    return {
        split: read_table(source, root, categories, image_root=image_root)
        for split, source in sources.items()
        if source.is_file()
    }


def shared_patients(tables: Mapping[str, Table]) -> dict[tuple[str, str], list[str]]:
    """For each pair of splits the patients that are in both, sorted; pairs without any are left out.

    A patient is known by the folder's name: patient00001 of two splits is one patient unless the numbering begins
    anew, which no data set in CheXpert's layout does.
    """
    names = list(tables)
    shared = {}
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            both = sorted(set(tables[first].patients) & set(tables[second].patients))
            if both:
                shared[first, second] = both
    return shared


def without_patients(table: Table, others: Sequence[Table]) -> Table:
    """`table` without the rows of patients who are also in one of `others`, so that those stay unseen."""
    elsewhere = {patient for other in others for patient in other.patients}
    return table.take(np.asarray([patient not in elsewhere for patient in table.patients], dtype=bool))
