"""The lungs' vessels: trees that branch from each hilum and thin out towards the wall."""

from __future__ import annotations

import numpy as np

from cxr_cft.data.phantoms.canvas import Points

GENERATIONS = 4
# Width of the first branches in cm; each branching keeps about 0.72 of it (Murray's law: 0.79 for equal daughters).
ROOT_WIDTH, THINNING = 0.62, 0.72


def tree(
    rng: np.random.Generator,
    root: tuple[float, float],
    angles: tuple[float, float],
    reach: float,
    *,
    branches: int = 7,
    upward_gain: float = 0.65,
) -> list[tuple[Points, float, float]]:
    """Lines (points, width, strength) of one lung's vessels, thin ones first so that wide ones cover them.

    Angles are radians from +x towards +y (down); vessels that go up are `upward_gain` as wide as those that go down,
    since an upright patient's blood sinks to the bases.
    """
    heading = np.linspace(angles[0], angles[1], branches) + rng.normal(0, 0.12, branches)
    start = np.tile(np.asarray(root), (branches, 1)) + rng.normal(0, 0.5, (branches, 2))
    width = ROOT_WIDTH * rng.uniform(0.75, 1.15, branches) * np.where(np.sin(heading) < 0.1, upward_gain, 1.0)
    length = reach * rng.uniform(0.26, 0.36, branches)
    lines: list[tuple[Points, float, float]] = []
    for _ in range(GENERATIONS):
        bend = rng.normal(0, 0.16, len(heading))
        step = length[:, None] / 2
        middle = start + step * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        heading = heading + bend
        end = middle + step * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        segments = np.stack([start, middle, end], axis=1)
        lines.extend((segment, float(w), float(min(1.0, w / 0.7))) for segment, w in zip(segments, width, strict=True))
        fork = rng.uniform(0.22, 0.5, len(heading))
        heading = np.concatenate([heading + fork, heading - fork * rng.uniform(0.5, 1, len(heading))])
        start = np.concatenate([end, end])
        width = np.concatenate([width, width]) * THINNING * rng.uniform(0.8, 1.1, 2 * len(width))
        length = np.concatenate([length, length]) * rng.uniform(0.65, 0.9, 2 * len(length))
    return lines[::-1]
