"""Where a sign lies: the same place of the chest seen from the front and from the side."""

from __future__ import annotations

import numpy as np

from cxr_cft.data.phantoms.canvas import Array, soft
from cxr_cft.data.phantoms.chest import Chest
from cxr_cft.data.phantoms.findings import Sign
from cxr_cft.data.phantoms.shape import Shape


def on_side(chest: Chest, side: int) -> Array:
    """1 over the sign's lung, 0 over the other; from the side, where both overlap, half everywhere."""
    if chest.lateral:
        return np.full_like(chest.x, 0.6)
    return soft(side * chest.x, 0.6)


def spot_of(chest: Chest, shape: Shape, sign: Sign, *, low: float, high: float) -> tuple[float, float]:
    """The x and y (cm) of a sign between `low` and `high`, as shares of the lung's height from the apex."""
    y = shape.lung_height * (low + (high - low) * sign.high)
    if chest.lateral:
        return (-6.0 + 12.0 * sign.deep) * min(1.0, 0.4 + 0.8 * y / shape.lung_height), y
    room = shape.half_width * min(1.0, 0.45 + 0.9 * y / shape.lung_height) - 1.6
    return sign.side * (3.6 + (room - 3.6) * sign.out), y
