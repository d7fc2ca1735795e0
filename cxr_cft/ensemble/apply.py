"""Found weights on other rows: members' CSVs in, one blended CSV out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxr_cft.data.predictions import read_predictions, write_predictions
from cxr_cft.ensemble.file import Ensemble
from cxr_cft.errors import PredictionsError, did_you_mean, first_few


def blend_csvs(ensemble: Ensemble, csvs: Sequence[str], out: Path) -> int:
    """Blend members' CSVs (`CSV`, whose stem names the member, or `NAME=CSV`) and write `out`; returns its rows.

    Raises PredictionsError for a CSV of no member, a member without one, or studies that not all of them have.
    """
    names = [member.name for member in ensemble.members]
    sources: dict[str, Path] = {}
    for text in csvs:
        name, equals, rest = text.partition("=")
        # A path may hold a "=" of its own.
        named = equals and (name in names or not Path(text).exists())
        name, path = (name, Path(rest)) if named else (Path(text).stem, Path(text))
        if name not in names:
            raise PredictionsError(f"{text} is of no member{did_you_mean(name, names)}; members are {', '.join(names)}")
        if name in sources:
            raise PredictionsError(f"member {name} is given twice: {sources[name]} and {path}")
        sources[name] = path
    missing = [name for name in names if name not in sources]
    if missing:
        raise PredictionsError(f"no predictions are given of {first_few(missing)}; blending needs every member")
    read = [read_predictions(sources[name], ensemble.categories) for name in names]
    studies = read[0].studies
    for each in read[1:]:
        added = set(each.studies) - set(studies)
        if added:
            raise PredictionsError(
                f"{each.source} has {len(added)} studies that {read[0].source} lacks: {first_few(sorted(added))}"
            )
    scores = np.stack([each.rows(studies) for each in read])
    write_predictions(out, studies, ensemble.categories, ensemble.blend(scores))
    return len(studies)
