"""A search as a picture: what every candidate is worth, with intervals, and the weights of the recommended one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cxr_cft.artifacts import replacing
from cxr_cft.ensemble.file import CANDIDATES, Ensemble, Estimate

USED, OTHER = "#1b6ca8", "#8a8f98"
SHOWN = 40  # members on a page; the others have the least weight


def draw_ensemble(found: Ensemble, path: Path) -> None:
    """Write a PNG: estimates on the left, weights by member and category on the right."""
    order = np.argsort(-found.weights().mean(axis=1), kind="stable")[:SHOWN]
    height = max(4.2, 0.9 + 0.3 * max(len(order), len(CANDIDATES) + 1))
    figure = Figure(figsize=(13, height), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_estimates(left, found)
    _draw_weights(right, found, order)
    figure.suptitle(
        f"{len(found.members)} members, {found.studies} studies of {found.patients} patients, cxr-cft {found.version}",
        fontsize=10,
    )
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=150, metadata={"Software": None})


def _draw_estimates(axes: Axes, found: Ensemble) -> None:
    rows: list[tuple[str, Estimate]] = [
        (title + (" (recommended)" if name == found.recommended else ""), found.candidates[name])
        for name, title in CANDIDATES.items()
    ]
    if len(found.members) > 1:
        rows.append(("chosen like that in every fold", found.procedure))
    for place, (title, each) in enumerate(rows):
        color = USED if "recommended" in title else OTHER
        if each.out_of_fold is not None:
            axes.plot(
                each.out_of_fold, place, "o", color=color, label="out of fold, 95 % interval" if not place else None
            )
        if each.interval is not None:
            axes.plot(each.interval, (place, place), "-", color=color, linewidth=2)
    fitted = [found.candidates[name].fitted for name in CANDIDATES]
    axes.plot(fitted, range(len(fitted)), "|", color="#c0392b", markersize=11, label="fitted to the same studies")
    equal = found.candidates["equal"].out_of_fold
    if equal is not None:
        axes.axvline(equal, color=OTHER, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [title for title, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"mean AUROC of {', '.join(found.scored)}", fontsize=8, wrap=True)
    axes.legend(loc="lower left", fontsize=8, frameon=False, bbox_to_anchor=(0, 1.0), ncols=2)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_weights(axes: Axes, found: Ensemble, order: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
    weights = found.weights()
    names = [found.members[m].name for m in order]
    axes.barh(range(len(order)), weights[order].mean(axis=1), color=USED, alpha=0.35, label="mean over categories")
    by_category = not np.allclose(weights, weights.mean(axis=1, keepdims=True))
    for c, category in enumerate(found.categories if by_category else ()):
        color = colormaps["tab20"](c % 20)
        axes.plot(weights[order, c], range(len(order)), "o", color=color, markersize=4, label=category)
    if found.chosen == "equal" and len(names) > 1:  # what was searched says more than bars of one length
        searched = found.weights("ga")[order].mean(axis=1)
        axes.plot(searched, range(len(order)), "D", color="#c0392b", markersize=4, label="genetic algorithm, not used")
        axes.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    axes.axvline(1 / len(found.members), color=OTHER, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(order)), names, parse_math=False)  # a name may hold a $
    axes.invert_yaxis()
    left_out = len(found.members) - len(order)
    axes.set_xlabel(
        f"weight, {CANDIDATES[found.chosen]} (dotted: equal)" + f"; {left_out} more members have less" * bool(left_out),
        fontsize=8,
    )
    if by_category:
        axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.spines[["top", "right"]].set_visible(False)
