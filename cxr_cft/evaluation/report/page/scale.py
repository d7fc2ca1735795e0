"""The common axis of a table's interval bars: round ends that hold every bar, and where a value lies in per cent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from cxr_cft.evaluation.report.facts import Estimate

TICKS = 4  # intervals at most; more labels than that touch each other above a bar


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high` with marks at `ticks`."""

    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int

    def is_minor(self, place: int) -> bool:
        """Whether the mark can go without its number where there is little room: every second, never the one at 0."""
        middle = min(range(len(self.ticks)), key=lambda each: abs(self.ticks[each]))
        return (place - middle) % 2 == 1

    def at(self, value: float) -> float:
        """Where the value lies, in per cent of the axis's length, two digits."""
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 2)


def common_scale(estimates: Iterable[Estimate | None], *, zero: bool = False, share: float = 1.0) -> Scale | None:
    """The axis for these estimates, None if none of them is a number. With `zero` it holds 0.

    With a `share` below 1 it holds that share of the values and bounds alone, so that one wild interval does not press
    all others to dots; `at` puts what lies beyond at the end.
    """
    found = [number for each in estimates if each for number in (each.value, each.low, each.high)]
    values = [value for value in found if math.isfinite(value)]
    if not values:
        return None
    low, high = (float(end) for end in np.quantile(values, ((1 - share) / 2, (1 + share) / 2)))
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-3:  # one value, or none that differ: an axis needs a length
        low, high = low - 5e-4, high + 5e-4
    ticks = [float(tick) for tick in MaxNLocator(TICKS, steps=[1, 2, 5, 10]).tick_values(low, high)]
    step = ticks[1] - ticks[0]
    return Scale(ticks[0], ticks[-1], tuple(ticks), max(0, -math.floor(math.log10(step) + 1e-9)))
