"""The training curves of every run together, and how each run is told from the others without colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cxr_cft.evaluation.report.facts import Training
from cxr_cft.evaluation.report.page.svg import COLOR, new_axes, to_svg
from cxr_cft.evaluation.report.page.wording import number

WIDTH, HEIGHT = 380, 280  # px; half of a desktop page
SERIES = tuple(f"series-{n}" for n in range(6))
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2.5), (2, 2), (9, 2.5, 2, 2.5), (1, 3))


@dataclass(frozen=True)
class Trace:
    """A run's curve: its training, the role of its colour, its dashes in px (none: a whole line)."""

    training: Training
    role: str
    dashes: tuple[float, ...]


def traces(trainings: Sequence[Training]) -> tuple[Trace, ...]:
    """Six colours and five dashes go round, so that thirty runs differ, the first five without colour."""
    return tuple(
        Trace(training, SERIES[place % len(SERIES)], DASHES[place % len(DASHES)])
        for place, training in enumerate(trainings)
    )


def loss_chart(runs: Sequence[Trace], key: str) -> Markup | None:
    """Training loss by epoch."""
    if not runs:
        return None
    values = [np.array(run.training.loss, dtype=np.float64) for run in runs]
    words = [f"{run.training.run}: {_course(run.training, loss, 4)}." for run, loss in zip(runs, values, strict=True)]
    return to_svg(_draw(runs, values, "training loss"), key, "Training loss of every run by epoch", " ".join(words))


def auroc_chart(runs: Sequence[Trace], key: str) -> Markup | None:
    """Mean validation AUROC by epoch; an epoch without one is a gap."""
    if not runs:
        return None
    values = [np.array([np.nan if x is None else x for x in run.training.auroc], dtype=np.float64) for run in runs]
    words = [f"{run.training.run}: {_course(run.training, auroc, 3)}." for run, auroc in zip(runs, values, strict=True)]
    axes = _draw(runs, values, "mean AUROC on validation")
    return to_svg(axes, key, "Mean validation AUROC of every run by epoch", " ".join(words))


def _draw(runs: Sequence[Trace], values: Sequence[np.ndarray[tuple[int], np.dtype[np.float64]]], label: str) -> Axes:
    axes = new_axes(HEIGHT, WIDTH, left=50)
    for run, heights in zip(runs, values, strict=True):
        training, color = run.training, COLOR[run.role]
        axes.plot(
            training.epochs,
            heights,
            color=color,
            linewidth=1.8,
            linestyle=(0, tuple(length / 1.8 for length in run.dashes)) if run.dashes else "-",  # in line widths
            marker="." if len(training.epochs) < 2 else None,
            gid="is-curve",
        )
        if training.kept in training.epochs:
            kept = heights[training.epochs.index(training.kept)]
            axes.plot(
                training.kept,
                kept,
                marker="o",
                markersize=8,
                markerfacecolor=COLOR["paper"],
                markeredgecolor=color,
                markeredgewidth=2,
                linestyle="none",
                gid="is-kept",
            )
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.margins(x=0.04, y=0.08)
    axes.set_xlabel("epoch", labelpad=3)
    axes.set_ylabel(label, labelpad=5)
    return axes


def _course(training: Training, values: np.ndarray[tuple[int], np.dtype[np.float64]], digits: int) -> str:
    """From the first epoch to the last, and at the kept one."""
    if not len(values):
        return "no epoch"
    first, last = (number(float(values[place]), digits) for place in (0, -1))
    said = f"{first} at epoch {training.epochs[0]}, {last} at epoch {training.epochs[-1]}"
    if training.kept in training.epochs:
        kept = number(float(values[training.epochs.index(training.kept)]), digits)
        said += f", {kept} at the kept epoch {training.kept}"
    return said
