"""From a CheXpert-style CSV to checked rows: paths, studies, patients, raw label states, and where the images lie."""

from __future__ import annotations

import csv
import hashlib
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_cft.data.labels import NEGATIVE, POSITIVE, UNCERTAIN
from cxr_cft.data.studies import aggregate_views, study_of
from cxr_cft.errors import DataError, did_you_mean, first_few

SPLITS = ("train", "valid", "test")

PROBED = 20  # paths that are looked for, to tell where the images lie; one or two may well be missing


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of one CSV.

    `paths` are as given, `labels` (N, C) raw states with nan for blank, `images` the folder that every path continues
    after its first `skipped` parts are dropped, `views` the CSV's own word for each view (Frontal, Lateral or "").
    """

    source: Path
    paths: tuple[str, ...]
    views: tuple[str, ...]
    categories: tuple[str, ...]
    labels: NDArray[np.float64]
    images: Path
    skipped: int

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def studies(self) -> tuple[str, ...]:
        """Each row's study."""
        return tuple(study_of(path) for path in self.paths)

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """Each row's patient."""
        return tuple(patient_of(study) for study in self.studies)

    def study_labels(self) -> tuple[list[str], NDArray[np.float64]]:
        """The studies and their raw states (S, C); where views disagree, positive wins, then negative."""
        return aggregate_views(self.paths, self.labels)

    def file(self, row: int) -> Path:
        """Where the image of a row lies."""
        return self.images.joinpath(*self.paths[row].split("/")[self.skipped :])

    def image_digest(self) -> str:
        """A digest of every image's size and time of change, wherever the folder lies.

        An image that is replaced changes it, a folder that is moved does not. The contents would take as long as
        decoding them. Raises DataError naming the images that are missing.
        """
        digest = hashlib.sha256()
        try:
            for row in range(len(self)):
                status = self.file(row).stat()
                if not stat.S_ISREG(status.st_mode):
                    raise FileNotFoundError(self.paths[row])
                digest.update(b"%d %d\n" % (status.st_size, status.st_mtime_ns))
        except OSError:
            check_images(self)  # tells of all that are missing
            raise
        return digest.hexdigest()

    def take(self, rows: NDArray[np.bool_]) -> Table:
        """The rows for which `rows` (N,) is true."""
        kept = np.flatnonzero(rows)
        return Table(
            self.source,
            tuple(self.paths[row] for row in kept),
            tuple(self.views[row] for row in kept),
            self.categories,
            self.labels[kept],
            self.images,
            self.skipped,
        )


def patient_of(study: str) -> str:
    """A study's patient, without the folders above: CheXpert's `…/train/patient00001/study1` → `patient00001`."""
    return study.rpartition("/")[0].rpartition("/")[2] or study


def read_frame(source: Path) -> pd.DataFrame:
    """Read a CSV as text, blank for blank; each row's index is its line in the file.

    Raises DataError if it is missing, no CSV, has a column twice, or a line is too short or too long. pandas' own
    reader fills a short line with blanks and takes the first column of long lines for an index, in silence.
    """
    rows, lines = [], []
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for row in filter(None, reader):
                rows.append(row)
                lines.append(reader.line_num)
    except FileNotFoundError:
        raise DataError(f"there is no file {source}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{source} could not be read as CSV: {error}") from error
    if not rows:
        raise DataError(f"{source} is empty")
    header = [name.strip() for name in rows[0]]
    doubled = [name for name, count in Counter(header).items() if name and count > 1]
    if doubled:
        raise DataError(f"{source} has more than one column {doubled[0]}")
    for line, row in zip(lines, rows, strict=True):
        if len(row) < len(header):
            raise DataError(f"{source}, line {line}: the line ends before its last column; is the file cut?")
        if len(row) > len(header):
            raise DataError(
                f"{source}, line {line}: {len(row)} values for {len(header)} columns; put a text with a comma in quotes"
            )
    frame: pd.DataFrame = pd.DataFrame(rows[1:], index=lines[1:], columns=header, dtype=str)
    return frame


def read_table(
    source: Path, root: Path, categories: Sequence[str], *, labelled: bool = True, image_root: Path | None = None
) -> Table:
    """Read a CSV whose `Path` begins with `root`'s own name, or continues `root` or `image_root`.

    `labelled=False` reads paths alone. Raises DataError for a CSV without Path or without rows, a category that is no
    column, and a label that is not 1, 0, −1 or blank, naming line and column.
    """
    frame = read_frame(source)
    if "Path" not in frame.columns:
        raise DataError(f"{source} has no column Path; its columns are {first_few(frame.columns, 6)}")
    if frame.empty:
        raise DataError(f"{source} has no rows")
    paths = tuple(frame["Path"].str.strip())
    if "" in paths:
        raise DataError(f"{source}, line {frame.index[paths.index('')]}: Path is blank")
    views = tuple(frame["Frontal/Lateral"]) if "Frontal/Lateral" in frame.columns else ("",) * len(paths)
    labels = np.full((len(frame), len(categories)), np.nan)
    if labelled:
        for column, category in enumerate(categories):
            labels[:, column] = parse_labels(frame, category, source)
    images, skipped = _locate(paths, root, image_root)
    return Table(source, paths, views, tuple(categories), labels, images, skipped)


def parse_labels(frame: pd.DataFrame, category: str, source: Path) -> NDArray[np.float64]:
    """One category's raw states (N,), nan for blank. Raises DataError naming the column or the line that is wrong."""
    if category not in frame.columns:
        raise DataError(f"{source} has no column {category}{did_you_mean(category, frame.columns)}")
    codes, found_texts = pd.factorize(frame[category])
    texts = [str(text).strip() for text in found_texts]  # the few that there are, not each of the rows
    states = pd.to_numeric(pd.Series(texts, dtype=object).replace("", "nan"), errors="coerce").to_numpy(
        dtype=np.float64
    )
    for code, (text, state) in enumerate(zip(texts, states, strict=True)):
        if text and state not in (POSITIVE, NEGATIVE, UNCERTAIN):
            line = frame.index[int((codes == code).argmax())]
            raise DataError(
                f"{source}, line {line}, {category}: '{text}' is no label; write 1, 0, -1 or leave it blank"
            )
    found: NDArray[np.float64] = states[codes]
    return found


def check_images(table: Table) -> None:
    """Raise DataError if an image is missing, naming the first few and how many there are."""
    missing = [row for row in range(len(table)) if not table.file(row).is_file()]
    if missing:
        first = first_few(table.paths[row] for row in missing)
        where = f"(looked for {table.file(missing[0])})"
        raise DataError(f"{table.source}: {len(missing)} of {len(table)} images are missing: {first} {where}")


def data_folder(root: Path) -> Path:
    """`root`, absolute. Raises DataError unless it holds train.csv and valid.csv."""
    for name in ("train.csv", "valid.csv"):
        if not (root / name).is_file():
            what = "is no folder" if not root.is_dir() else f"has no {name}"
            raise DataError(f"{root} {what}; a data folder holds train.csv, valid.csv and, if there is one, test.csv")
    return root.resolve()


def _locate(paths: Sequence[str], root: Path, image_root: Path | None) -> tuple[Path, int]:
    """The folder and the number of leading parts to drop with which most of the first paths are found."""
    root = root.resolve()
    named = paths[0].split("/")[0] == root.name
    bases = ([(image_root, 0), (image_root, 1)] if image_root else []) + [
        (root, 1 if named else 0),
        (root, 0 if named else 1),  # a data folder under another name than its CSV gives it
        (root.parent, 0),
    ]

    def found(base: tuple[Path, int]) -> int:
        return sum(base[0].joinpath(*path.split("/")[base[1] :]).is_file() for path in paths[:PROBED])

    return max(bases, key=found)  # the first of equals
