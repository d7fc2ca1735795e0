"""What a user can get wrong, as exceptions whose message is the one line that the terminal shows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CxrCftError(Exception):
    """A mistake that the user can mend: the message says what is wrong, where, and what to do."""


class DataError(CxrCftError):
    """A data folder, a CSV or an image is not what it should be."""


class RecipeError(CxrCftError):
    """A recipe or a `--set` cannot be read as one."""


class RunError(CxrCftError):
    """A run folder is missing, incomplete or does not fit the others."""


class PredictionsError(CxrCftError):
    """A prediction CSV or an ensemble file does not fit the studies, the labels or its peers."""


class SubmissionError(CxrCftError):
    """A bundle could not be made, or did not pass its rehearsal."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the closest known name, or an empty string if none is close."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f" (did you mean '{lowered[close[0]]}'?)" if close else ""


def first_few(names: Iterable[object], limit: int = 3) -> str:
    """The first names, comma-separated, and how many more there are: `a, b, c and 4 more`."""
    everything = [str(name) for name in names]
    shown = ", ".join(everything[:limit])
    more = len(everything) - limit
    return f"{shown} and {more} more" if more > 0 else shown
