"""Support devices: tubes, lines, pacemakers, drains, leads and sternal wires, as metal along the beam."""

from __future__ import annotations

import numpy as np

from cxr_cft.data.phantoms.canvas import Points, draw_lines, ellipse, soft
from cxr_cft.data.phantoms.chest import Chest
from cxr_cft.data.phantoms.findings import Sign
from cxr_cft.data.phantoms.patient import Pose
from cxr_cft.data.phantoms.shape import Shape

# Each line's strength is a share of this much metal in cm: a solid wire 1, a tube's opaque stripe about 0.3. By eye.
SOLID = 0.35
Line = tuple[Points, float, float]


def add_devices(chest: Chest, sign: Sign, pose: Pose, shape: Shape, drained: Sign | None) -> None:
    """One to four devices, more with severity; tubes only in bed, a drain only where there is a reason."""
    rng = np.random.default_rng(sign.seed)
    kinds = ["line", "line", "pacemaker", "leads", "wires", "port"]
    if pose.portable:
        kinds += ["tube", "stomach", "leads", "line", "leads"]
    if drained is not None:
        kinds += ["drain", "drain"]
    order = rng.permutation(len(kinds))
    lines: list[Line] = []
    for index in order[: 1 + int(sign.severity * 3.2)]:
        kind = kinds[index]
        side = drained.side if kind == "drain" and drained is not None else int(rng.choice([-1, 1]))
        lines += _side_view(rng, kind, shape) if chest.lateral else _front_view(rng, kind, side, shape, pose)
        if kind in ("pacemaker", "port"):
            _box(chest, rng, kind, shape)
    chest.metal += SOLID * draw_lines(chest.frame, lines)


def _curve(*points: tuple[float, float]) -> Points:
    """A smooth way through points (Catmull-Rom)."""
    way = np.asarray([points[0], *points, points[-1]], dtype=float)
    steps = np.linspace(0, 1, 7)[:, None]
    pieces = []
    for a, b, c, d in zip(way, way[1:], way[2:], way[3:], strict=False):
        pieces.append(
            0.5
            * (2 * b + (c - a) * steps + (2 * a - 5 * b + 4 * c - d) * steps**2 + (3 * b - a - 3 * c + d) * steps**3)
        )
    return np.concatenate(pieces)


def _front_view(rng: np.random.Generator, kind: str, side: int, shape: Shape, pose: Pose) -> list[Line]:
    height, wide = shape.lung_height, shape.half_width
    shift = 0.4 * pose.turn
    a, b, c = rng.normal(0, 0.5, 3)
    if kind == "tube":
        return [(_curve((0.3 * a, -9), (shift, -2), (shift + 0.1, 4.2 + b)), 0.45, 0.28)]
    if kind == "stomach":
        return [(_curve((0.5 + a, -9), (0.3, 0), (0.5, 0.5 * height), (1.2, height), (4.5 + b, height + 4)), 0.28, 0.3)]
    if kind == "line":
        cava = (-2.3 + shift, 0.36 * height), (-2.4 + shift, 0.5 * height + b)
        if rng.random() < 0.5:  # jugular
            return [
                (_curve((side * 3.5 + a, -6), (side * 2.8, 0), (-1.8 + 0.6 * side, 0.2 * height), *cava), 0.2, 0.42)
            ]
        return [(_curve((side * wide * 1.2, 3 + a), (side * 7, 1 + c), (side * 3, 2.2), *cava), 0.18, 0.42)]
    if kind == "port":
        cava = (-2.3 + shift, 0.36 * height), (-2.4 + shift, 0.5 * height + b)
        return [(_curve((-7.0, 0.25 * height), (-5, 1.2), (-2.6, 1.8), *cava), 0.18, 0.42)]
    if kind == "pacemaker":
        apex = (shape.heart_middle + 0.62 * shape.heart_half_width, height - 1.5 + 0.4 * b)
        start = (8.2, 0.17 * height)
        ventricle = _curve(
            start, (6, 1.0), (2.5, 1.8), (-1.2, 0.3 * height), (-2.2, 0.6 * height), (0, 0.88 * height), apex
        )
        atrium = _curve(
            start, (5.8, 1.4), (2.4, 2.2), (-1.0, 0.3 * height), (-2.4, 0.7 * height), (-3.2 + a, 0.62 * height)
        )
        return [(ventricle, 0.18, 0.8)] + ([(atrium, 0.18, 0.8)] if rng.random() < 0.6 else [])
    if kind == "drain":
        return [
            (
                _curve(
                    (side * (wide + 4), 0.8 * height + a),
                    (side * wide * 0.85, 0.65 * height),
                    (side * 6, 0.25 * height + b),
                ),
                0.55,
                0.32,
            )
        ]
    if kind == "wires":  # closed breastbone
        rings = [0.28 * height + step * 2.5 for step in range(5)]
        return [
            (
                _curve((shift - 0.7, y), (shift, y - 0.3), (shift + 0.7, y), (shift, y + 0.35), (shift - 0.6, y)),
                0.12,
                0.9,
            )
            for y in rings
        ]
    dots: list[Line] = []
    for x, y in ((-0.75, 0.12), (0.75, 0.1), (0.7, 0.95)):  # leads
        x, y = x * wide + rng.normal(0, 0.8), y * height + rng.normal(0, 0.8)
        dots.append((np.array([[x - 0.45, y], [x + 0.45, y]]), 0.9, 0.55))
        dots.append(
            (_curve((x, y), (x * 0.8 + a, y + 4), (x * 0.5 + 4 * b, height * 0.8), (3 * c, height + 9)), 0.12, 0.7)
        )
    return dots


def _side_view(rng: np.random.Generator, kind: str, shape: Shape) -> list[Line]:
    height = shape.lung_height
    a, b = rng.normal(0, 0.5, 2)
    if kind in ("tube", "stomach"):
        return [(_curve((-0.8, -8), (0, 0), (2 + 0.3 * a, 0.5 * height), (2.2, height), (-1, height + 4)), 0.28, 0.3)]
    if kind in ("line", "port"):
        return [(_curve((-4, 2 + a), (-2, 3), (-1.2, 0.3 * height), (-1.0, 0.5 * height + b)), 0.2, 0.42)]
    if kind == "pacemaker":
        return [
            (
                _curve(
                    (-7.5, 5), (-4, 2.5), (-1.5, 5), (-0.8, 0.6 * height), (-3, 0.85 * height), (-6.5, 0.9 * height + b)
                ),
                0.18,
                0.8,
            )
        ]
    if kind == "drain":
        return [(_curve((-1 + a, height + 2), (1, 0.7 * height), (0.5 + b, 0.25 * height)), 0.5, 0.32)]
    if kind == "wires":
        return [
            (
                np.array(
                    [[-5.2 - 0.75 * s, 0.25 * height + 2.4 * s], [-4.8 - 0.75 * s, 0.25 * height + 2.4 * s + 0.5]]
                ),
                0.2,
                0.9,
            )
            for s in range(5)
        ]
    return [(_curve((-9, 6 + a), (-6, 12), (-3 + 2 * b, height + 8)), 0.12, 0.7)]


def _box(chest: Chest, rng: np.random.Generator, kind: str, shape: Shape) -> None:
    """The pacemaker's can below the left clavicle, or a port's chamber below the right one."""
    radius = 2.1 if kind == "pacemaker" else 1.1
    at = 8.4 if kind == "pacemaker" else -7.0
    x, y = at + rng.normal(0, 0.4), 0.22 * shape.lung_height + rng.normal(0, 0.5)
    if chest.lateral:
        can = ellipse(chest.x, chest.y, (-8.2, y), (0.55, radius))
    else:
        can = ellipse(chest.x, chest.y, (x, y), (radius, 0.9 * radius), 0.3) ** 2
    chest.metal += (0.45 if kind == "pacemaker" else 0.2) * soft(1 - can, 0.15)
