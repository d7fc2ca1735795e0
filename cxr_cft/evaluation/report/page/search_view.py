"""An ensemble file as its section shows it: candidates with intervals, members by weight, shades of the matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cxr_cft.ensemble.file import CANDIDATES, Interval, MemberEntry
from cxr_cft.ensemble.file import Estimate as Worth
from cxr_cft.evaluation.report.facts import Estimate, Kind, Search
from cxr_cft.evaluation.report.page.scale import Scale, common_scale


@dataclass(frozen=True)
class CandidateRow:
    """A row of the candidates' table; `name` is empty for the whole procedure, which is no candidate."""

    name: str
    title: str
    worth: Estimate
    difference: Estimate
    fitted: float | None
    shrinkage: float | None


@dataclass(frozen=True)
class MemberRow:
    """A member with its weights; each also as a shade, in per cent of the largest, 0 where all are the same."""

    entry: MemberEntry
    kind: Kind
    mean: float
    mean_share: float
    weights: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class SearchView:
    """The section of one file. `equal` is what equal weights are worth, for the line that others are seen against."""

    search: Search
    rows: tuple[CandidateRow, ...]
    scale: Scale | None
    difference_scale: Scale | None
    equal: float | None
    by_category: bool
    members: tuple[MemberRow, ...]
    matrix: tuple[tuple[tuple[float | None, float | None], ...], ...]


def view_search(search: Search) -> SearchView:
    """What the section shows; members by descending mean weight of the candidate in use."""
    found = search.ensemble
    several = len(found.members) > 1
    rows = [
        CandidateRow(
            name,
            CANDIDATES.get(name, name),
            _estimate(each.out_of_fold, each.interval),
            _estimate(each.difference, each.difference_interval),
            each.fitted,
            each.shrinkage if name.startswith("ga") else None,
        )
        for name, each in sorted(found.candidates.items(), key=lambda item: _place(item[0]))
    ]
    if several:
        rows.append(_procedure(found.procedure))
    weights = found.weights()
    means = weights.mean(axis=1)
    order = np.argsort(-means, kind="stable")
    return SearchView(
        search=search,
        rows=tuple(rows) if several else (),
        scale=common_scale(row.worth for row in rows) if several else None,
        difference_scale=common_scale((row.difference for row in rows), zero=True) if several else None,
        equal=found.candidates["equal"].out_of_fold if "equal" in found.candidates else None,
        by_category=not np.allclose(weights, weights[:, :1]),
        members=tuple(
            MemberRow(
                entry=found.members[m],
                kind=_kind(found.members[m]),
                mean=float(means[m]),
                mean_share=0.0 if np.allclose(means, means[0]) else _shade(means[m], 0.0, means.max()),
                weights=tuple((float(weight), _shade(weight, 0.0, weights.max())) for weight in weights[m]),
            )
            for m in order
        ),
        matrix=_matrix(found.correlations),
    )


def _procedure(worth: Worth) -> CandidateRow:
    return CandidateRow(
        "",
        "chosen like the recommended, within every fold",
        _estimate(worth.out_of_fold, worth.interval),
        _estimate(worth.difference, worth.difference_interval),
        None,
        None,
    )


def _place(name: str) -> int:
    """In the order in which candidates are compared, whatever the file's order."""
    return list(CANDIDATES).index(name) if name in CANDIDATES else len(CANDIDATES)


def _estimate(value: float | None, interval: Interval | None) -> Estimate:
    low, high = interval or (math.nan, math.nan)
    return Estimate(math.nan if value is None else value, low, high)


def _kind(member: MemberEntry) -> Kind:
    if member.kind == "csv":
        return "csv"
    return "cft" if member.tuned else "run"


def _shade(value: float, low: float, high: float) -> float:
    """Where the value lies between low and high, in per cent."""
    return round(100 * float(value - low) / float(high - low), 1) if high > low else 0.0


def _matrix(
    correlations: tuple[tuple[float | None, ...], ...],
) -> tuple[tuple[tuple[float | None, float | None], ...], ...]:
    """Every number with its shade between the smallest and 1; none on the diagonal, which says nothing."""
    values = [each for row in correlations for each in row if each is not None]
    low = min(values, default=0.0)
    return tuple(
        tuple((each, None if each is None or i == j else _shade(each, low, 1.0)) for j, each in enumerate(row))
        for i, row in enumerate(correlations)
    )
