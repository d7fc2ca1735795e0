"""The pleura's findings as signs: effusion, pneumothorax, thickening and plaques."""

from __future__ import annotations

import numpy as np

from cxr_cft.data.phantoms.canvas import Array, cloud, soft
from cxr_cft.data.phantoms.chest import Chest
from cxr_cft.data.phantoms.findings import Sign
from cxr_cft.data.phantoms.place import on_side
from cxr_cft.data.phantoms.shape import Shape


def add_effusion(chest: Chest, sign: Sign, shape: Shape, *, supine: bool) -> None:
    """Fluid: upright it blunts the angle and climbs the wall as a meniscus; supine it also veils the lung."""
    rng = np.random.default_rng(sign.seed)
    both = rng.random() < 0.4
    sides = [(sign.side, 1.0), (-sign.side, float(rng.uniform(0.4, 0.9)))] if both else [(sign.side, 1.0)]
    for side, part in sides:
        _pool(chest, side, sign.severity * part, supine=supine, shape=shape)


def _pool(chest: Chest, side: int, severity: float, *, supine: bool, shape: Shape) -> None:
    angle = chest.heights[1]
    depth = (
        1.9 + 2.6 * severity + 6.0 * severity**2
    )  # cm above the costophrenic angle: 200 ml blunt it, litres reach the hilum
    if supine:
        depth *= 0.6
    # Highest along the wall, lowest towards the middle.
    climb = np.exp(-np.maximum(chest.wall, 0) / (1.2 + 0.25 * depth))
    surface = angle - depth * (0.62 + 0.55 * climb)
    chest.fill(
        soft(chest.y - surface, 0.45 + 0.07 * depth) * (0.97 if not chest.lateral else 0.75) * on_side(chest, side)
    )
    if supine:
        down = np.clip(chest.y / shape.lung_height, 0, 1.2)
        chest.fill((0.08 + 0.34 * severity) * down * on_side(chest, side))


def add_pneumothorax(chest: Chest, sign: Sign, shape: Shape) -> None:
    """Air between the pleurae: a rim without vessels, darker than lung, beside the thin visceral line."""
    width = 0.8 + 4.2 * sign.severity**1.3
    down = np.clip(chest.y / shape.lung_height, 0, 1.2)
    rim = width * (1.15 - 0.75 * down) * (0.5 if chest.lateral else 1.0)  # air rises to the apex
    inside = on_side(chest, sign.side) * chest.lung
    free = soft(rim - chest.wall, 0.15) * inside
    # Free air has no tissue in it: more lucent than lung, which keeps a quarter of water's density.
    chest.air *= 1 + 0.3 * free
    chest.vessels *= 1 - free
    line = np.exp(-(((chest.wall - rim) / 0.13) ** 2)) * inside
    chest.water += 0.55 * line
    # The lung that is left holds less air.
    chest.air *= 1 - (0.05 + 0.22 * sign.severity) * (inside - free)


def add_pleural_thickening(chest: Chest, sign: Sign, shape: Shape) -> None:
    """A band along the wall or a cap over the apex, at times with a calcified plaque."""
    rng = np.random.default_rng(sign.seed)
    ripple: Array = 1 + 0.35 * cloud(rng, chest.frame, 2.0)
    side = on_side(chest, sign.side)
    width = (0.8 + 1.1 * sign.severity) * ripple
    if rng.random() < 0.3:  # apical cap
        band = soft(1.4 * width + 0.6 - chest.y, 0.3) * chest.lung
    else:
        middle, long = shape.lung_height * rng.uniform(0.5, 0.85), rng.uniform(3.0, 5.5)
        band = soft(width - chest.wall, 0.25) * soft(long - np.abs(chest.y - middle), 1.2)
    chest.fill(0.8 * band * side)
    chest.water += 0.7 * band * side * chest.lung
    if rng.random() < 0.5:
        plaque = soft(cloud(rng, chest.frame, 1.3) - 0.6, 0.4) * np.exp(-(((chest.floor - chest.y - 0.3) / 0.3) ** 2))
        plaque = plaque + soft(cloud(rng, chest.frame, 1.3) - 0.5, 0.4) * np.exp(-(((chest.wall - 0.9) / 0.3) ** 2))
        chest.bone += (0.5 + 0.8 * sign.severity) * plaque * side * soft(chest.y - 4, 1.0)
