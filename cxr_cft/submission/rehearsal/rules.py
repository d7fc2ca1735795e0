"""The competition's own rules for an output, and what more is asked of one: enough digits."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_cft.data.labels import COMPETITION
from cxr_cft.data.predictions import read_predictions
from cxr_cft.data.studies import study_of
from cxr_cft.data.table import read_frame
from cxr_cft.errors import CxrCftError, SubmissionError, first_few

DIGITS = 9  # significant ones, that no two float32 become one; rounding cost real entries AUROC (measured)


def check_output(output: Path, csv: Path) -> tuple[int, tuple[str, ...]]:
    """Hold an output CSV against the competition's rules; returns the number of studies, and the categories it lacks.

    Raises SubmissionError for a header that differs, a study that is missing, doubled, added or written otherwise, and
    a score that is no finite number.
    """
    asked = {study_of(path) for path in read_frame(csv)["Path"] if path.strip()}
    return len(asked), check_answer(output, asked, str(output))


def check_answer(output: Path, asked: Iterable[str], name: str) -> tuple[str, ...]:
    """`check_output` for the studies `asked`; messages call the output `name`. Returns the categories it lacks."""
    try:
        header, *rows = _cells(output)
        wanted = ["Study", *COMPETITION]
        missing = tuple(category for category in COMPETITION if category not in header)
        if header[0] != "Study" or (not missing and header != wanted):
            raise SubmissionError(f"{output}: the header is {','.join(header)}, not {','.join(wanted)}")
        read_predictions(output, header[1:])
    except CxrCftError as error:
        raise SubmissionError(str(error).replace(str(output), name)) from error
    given, wished = {row[0] for row in rows}, set(asked)
    for what, studies in (("lacks", wished - given), ("adds", given - wished)):
        if studies:
            raise SubmissionError(f"{name} {what} {len(studies)} studies: {first_few(sorted(studies))}")
    return missing


def _cells(output: Path) -> list[list[str]]:
    """An output's cells as they are, blanks and all: the evaluator compares characters."""
    read_frame(output)
    try:
        with output.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.reader(file, strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SubmissionError(f"{output} is no CSV in UTF-8: {error}") from error


def check_digits(output: Path, prior: Mapping[str, float], name: str) -> None:
    """Raise SubmissionError if most scores of a category have fewer than `DIGITS` significant digits.

    Of the stored prior, of 0 and of 1 any may have fewer, and of the others a few, where those left out are zeros.
    """
    frame = read_frame(output)
    for category in frame.columns[1:]:
        plain = {0.0, 1.0, prior.get(category)}
        digits = [_significant(text) for text in frame[category] if float(text) not in plain]
        if digits and np.median(digits) < DIGITS:
            raise SubmissionError(
                f"{name}: {category} is written with {np.median(digits):.0f} significant digits, not {DIGITS} or more; "
                "rounded scores tie, and ties cost AUROC"
            )


def read_scores(output: Path, studies: Iterable[str], categories: Iterable[str]) -> NDArray[np.float64]:
    """The scores (S, C) of an output that passed, in the order of `studies`."""
    frame = read_frame(output).set_index("Study")
    scores: NDArray[np.float64] = frame.loc[list(studies), list(categories)].to_numpy(dtype=np.float64)
    return scores


def _significant(text: str) -> int:
    mantissa = text.strip().lower().partition("e")[0]
    return len("".join(filter(str.isdigit, mantissa)).lstrip("0"))
