"""A comparison of several prediction CSVs as tables: ranks, differences of the mean, and each category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING

from cxr_cft.cli import console, fitted

if TYPE_CHECKING:
    from cxr_cft.evaluation.comparison import Comparison, Difference

LEVEL = 0.05  # below which a corrected p-value is marked; usual
EVERY_PAIR = 4  # files up to which every difference of the mean is shown, of more those from the best (assumed)

APART = ("95 % by bootstrap", ">p", "95 % by DeLong", ">p by DeLong")


def print_comparison(found: Comparison, labels: str) -> None:
    """Print ranks, differences of the mean, and categories; letters stand for the files in the order given."""
    score = found.scores[0]
    data = f"{score.studies} studies of {score.patients} patients ({labels})"
    letters = {name: _letter(m) for m, name in enumerate(found.names)}
    ranked = sorted(range(len(found.names)), key=lambda m: (found.ranks[m] or len(found.names) + 1, m))
    _print_ranks(found, letters, ranked, f"mean of {len(score.auroc) - len(score.undefined)} categories on {data}")
    _print_means(found, letters, found.names[ranked[0]])
    if len(found.names) == 2:
        _print_two(found, letters, data)
    else:
        _print_many(found, letters, ranked, data)


def _print_ranks(found: Comparison, letters: Mapping[str, str], ranked: Sequence[int], title: str) -> None:
    rows = []
    for m in ranked:
        name, score, ends = found.names[m], found.scores[m], found.rank_intervals[m]
        rows.append(
            (
                letters[name],
                name,
                f"{found.ranks[m] or fitted.NONE} ({f'{ends[0]} to {ends[1]}' if ends else fitted.NONE})",
                fitted.number(score.mean_auroc),
                fitted.interval(score.mean_interval),
                fitted.interval(score.mean_delong),
                fitted.number(score.mean_average_precision),
                fitted.number(score.mean_radiologists, ".2f"),
            )
        )
    fitted.table(
        title,
        [
            *("", "file", ">rank (95 %)", ">AUROC", "95 % by bootstrap", "95 % by DeLong", ">AP"),
            ">CheXpert's radiologists under ROC, of 3",
        ],
        rows,
        keys=2,
    )


def _print_means(found: Comparison, letters: Mapping[str, str], best: str) -> None:
    means = [each for each in found.differences if each.category is None and not isnan(each.value)]
    shown = means
    if len(found.names) > EVERY_PAIR:
        from_best = [
            each if each.first == best else each.turned() for each in means if best in (each.first, each.second)
        ]
        shown = sorted(from_best, key=lambda each: -each.value)
    if shown:
        rows = [(f"{letters[each.second]} − {letters[each.first]}", *_apart(each)) for each in shown]
        fitted.table("differences of the mean AUROC", ["", ">difference", *APART], rows)
    pairs = len(means)
    console.say("p-values are two-sided" + f" and corrected for {pairs} pairs by Holm's method" * (pairs > 1))
    lowest = 2 * pairs / (found.resamples + 1)  # that of `bootstrap_p`, corrected
    if lowest > LEVEL:
        console.say(f"of {pairs} pairs {found.resamples} resamples find no p below {lowest:.2f}: read DeLong's")


def _print_two(found: Comparison, letters: Mapping[str, str], data: str) -> None:
    rows = [
        (
            str(each.category),
            _known(found, str(each.category)),
            *(fitted.number(score.auroc[str(each.category)]) for score in found.scores),
            *_apart(each),
        )
        for each in found.differences
        if each.category is not None
    ]
    first, second = (letters[name] for name in found.names)
    columns = ["category", fitted.COUNTED, f">{first}", f">{second}", f">{second} − {first}", *APART]
    fitted.table(f"AUROC on {data}", columns, rows, keys=2)


def _print_many(found: Comparison, letters: Mapping[str, str], ranked: Sequence[int], data: str) -> None:
    best = found.names[ranked[0]]
    surely = {
        (each.category, name)
        for each in found.differences
        if best in (each.first, each.second) and each.delong_corrected < LEVEL
        for name in (each.first, each.second)
        if name != best
    }
    rows = [
        (
            category,
            _known(found, category),
            *(
                fitted.number(found.scores[m].auroc[category], ".3f")
                + ("*" if (category, found.names[m]) in surely else "")
                for m in ranked
            ),
        )
        for category in found.scores[0].auroc
    ]
    columns = ["category", fitted.COUNTED, *(f">{letters[found.names[m]]}" for m in ranked)]
    fitted.table(f"AUROC on {data}", columns, rows, keys=2)
    if surely:
        console.say(f"* apart from {letters[best]}: p < {LEVEL} by DeLong, corrected for the pairs of the category")
    console.say("--json has every pair's difference in each category, with intervals and p-values")


def _apart(each: Difference) -> tuple[str, ...]:
    return (
        fitted.number(each.value, "+.4f"),
        fitted.interval((each.low, each.high), signed=True),
        _p(each.corrected),
        fitted.interval((each.delong_low, each.delong_high), signed=True),
        _p(each.delong_corrected),
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else fitted.number(value, ".3f")


def _known(found: Comparison, category: str) -> str:
    return fitted.counted(found.scores[0].positives[category], found.scores[0].negatives[category])


def _letter(place: int) -> str:
    """From A to Z, then AA, BB and so on."""
    return chr(ord("A") + place % 26) * (1 + place // 26)
