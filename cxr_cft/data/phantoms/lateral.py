"""A chest seen from the side: spine behind, breastbone and heart in front, two domes. x < 0 is the patient's front."""

from __future__ import annotations

import math

import numpy as np

from cxr_cft.data.phantoms.canvas import Array, Frame, cloud, draw_lines, ellipse, half_disc, single, soft
from cxr_cft.data.phantoms.chest import Chest
from cxr_cft.data.phantoms.frontal import coarseness
from cxr_cft.data.phantoms.patient import Body, Pose
from cxr_cft.data.phantoms.shape import Shape
from cxr_cft.data.phantoms.vessels import tree

# Sizes are an adult's in cm, in kind, from radiographic anatomy; y is 0 at the lungs' apex, x 0 in the chest's middle.


def lateral_chest(body: Body, pose: Pose, shape: Shape, size: int) -> Chest:
    """The layers of a lateral view without filling of the lungs and without devices."""
    height, width = (size, round(size * 1.12)) if pose.seed % 3 == 0 else (round(size * 1.18), size)
    frame = Frame(height, width, 0.94 * pose.field / size, 0.8 * pose.angle, 0.6 * pose.x, pose.y + 0.6)
    x, y = frame.grid()
    rng = np.random.default_rng(pose.seed)
    front, back = chest_borders(y, body, shape)
    wall = np.minimum(x - front, back - x)
    middle, half = (front + back) / 2, (back - front) / 2
    floors = [_dome(x, top, body) for top in shape.domes]
    above = 0.5 * (soft(floors[0] - y, 0.2) + soft(floors[1] - y, 0.2))
    down = np.clip(y / (0.55 * shape.lung_height), 0, 1)
    across = 1.6 * shape.half_width * (0.25 + 0.75 * np.sqrt(down))
    air = across * half_disc(((x - middle) / (half + 0.4)) ** 2) ** 0.8 * soft(wall, 0.25) * above
    taken, hilar = _middle(x, y, body, shape, front)
    air = np.maximum(air - taken, 0) * coarseness(rng, frame, body)
    lung = soft(wall, 0.3) * above * soft(air - 2.5, 1.5)
    water = _body(x, y, front, back, body, shape) + hilar
    windpipe = np.array([[-1.0, -8.0], [-0.2, 0.0], [1.6, 8.8]])
    water -= 2.2 * draw_lines(frame, [(windpipe, 1.7, 1.0)])
    water += 0.3 * cloud(rng, frame, 3.0) + 0.12 * cloud(rng, frame, 1.2)
    branches = np.random.default_rng(body.vessel_seed)
    upward = 0.62 + 0.5 * shape.cephalised
    hilum = (0.8, 0.46 * shape.lung_height)
    lines = tree(branches, hilum, (-2.6, 0.3), 8.5, upward_gain=upward) + tree(
        branches, hilum, (0.3, 2.6), 9.5, upward_gain=upward
    )
    vessels = draw_lines(frame, lines) * np.float32(2.0 * shape.vessel_gain) * np.minimum(air / 4, 1)
    return Chest(
        lateral=True,
        frame=frame,
        x=x,
        y=y,
        lung=lung,
        wall=wall,
        floor=np.maximum(floors[0], floors[1]),
        water=water,
        air=air,
        bone=_bones(x, y, front, back, wall, body, shape),
        metal=np.zeros_like(x),
        vessels=vessels,
        heights=(0.0, shape.lung_height + body.dome_rise),
    )


def chest_borders(y: Array, body: Body, shape: Shape) -> tuple[Array, Array]:
    """Where the chest has its inner border in front (the breastbone slopes forwards) and behind (the ribs)."""
    down = np.clip(y / shape.lung_height, 0, 1.3)
    deep = 0.62 * body.lung_depth
    opening = np.clip(1 - (1 - np.clip(down * 3, 0, 1)) ** 2, 0, 1) ** 0.5
    front = -deep * (0.28 + 0.72 * np.clip(down, 0, 1) ** 0.7) * opening + 0.5
    back = deep * (0.45 + 0.5 * np.sin(math.pi * np.clip(0.16 + 0.55 * down, 0, 1))) * opening + 0.5
    return single(front), single(back)


def _dome(x: Array, top: float, body: Body) -> Array:
    """The y of one dome: highest in front of the middle, deepest at the posterior angle."""
    behind = np.clip((x + 1.5) / 10.5, 0, 1.2)
    ahead = np.clip((-1.5 - x) / 8, 0, 1.2)
    return single(top - 0.3 + (body.dome_rise + 0.8) * behind**1.8 + 2.2 * ahead**2)


def _middle(x: Array, y: Array, body: Body, shape: Shape, front: Array) -> tuple[Array, Array]:
    """How much lung (cm) heart, aorta and the upper mediastinum take, and the water that the hila add."""
    half = shape.heart_half_width
    low = min(shape.domes)
    ball = ellipse(x, y, (-0.62 * half + 0.6, low + 0.9 - 0.62 * half), (0.80 * half, 0.98 * half), -0.45)
    taken = 12.5 * half_disc(ball) + 1.0 * soft(1 - ball, 0.2)
    # Everything that widens the upper mediastinum also fills the clear space behind the breastbone.
    wide = shape.upper - body.upper
    band = ellipse(x, y, (-1.8 - 0.6 * wide, 0.3 * shape.lung_height), (2.2 + 1.3 * wide, 6.5))
    taken = np.maximum(taken, (5.5 + 2.0 * wide) * half_disc(band))
    arch = ellipse(x, y, (2.2, 0.3 * shape.lung_height), (2.6 + 0.5 * body.knob, 2.3))
    taken = np.maximum(taken, 3.2 * half_disc(arch)) + 1.2 * soft(front + 1.0 - x, 0.6)
    aorta = 1.2 * np.exp(-(((x - 4.6) / 1.1) ** 2)) * soft(y - 0.3 * shape.lung_height, 2.0)
    hilar = aorta + 3.0 * np.exp(-ellipse(x, y, (0.8, 0.46 * shape.lung_height), (1.7, 2.2)))
    return single(taken), single(hilar)


def _body(x: Array, y: Array, front: Array, back: Array, body: Body, shape: Shape) -> Array:
    """Thickness of everything inside the skin, arms raised."""
    skin_front, skin_back = front - 1.8 - 0.6 * body.fat, back + 3.6 + 0.5 * body.fat
    # Raised arms and shoulders widen the outline above the lungs.
    skin_front, skin_back = skin_front - 6 * soft(3.5 - y, 4.0), skin_back + 4 * soft(3.5 - y, 4.0)
    middle, half = (skin_front + skin_back) / 2, (skin_back - skin_front) / 2
    inside = soft(np.minimum(x - skin_front, skin_back - x), 0.4)
    trunk = 1.75 * (shape.half_width + 1.2 + 0.7 * body.fat) * np.sqrt(half_disc(((x - middle) / (half + 0.6)) ** 2))
    water = trunk * inside * (0.55 + 0.45 * soft(y - 1.0, 4.0))
    water += 5 * soft(3.5 - y, 3.0) * soft(half - 1.5 - np.abs(x - middle), 3.0)  # the arms
    water += 3.0 * np.clip((y - shape.lung_height) / 6, 0, 1) * inside
    if body.breasts > 0.3:
        ball = ellipse(x, y, (-0.56 * body.lung_depth, 0.75 * body.lung_height), (1.8 + body.breasts, 5.2))
        water = np.maximum(water, 11 * half_disc(ball)) + 1.0 * half_disc(ball)
    return single(water)


def _bones(x: Array, y: Array, front: Array, back: Array, wall: Array, body: Body, shape: Shape) -> Array:
    spine = x - (back - 0.9)
    level = y / 2.5 + body.rib_start
    off = np.abs(level - np.floor(level) - 0.5) * 2.5
    block = soft(1.0 - off, 0.14) * (0.8 + 0.5 * soft(off - 0.75, 0.15))
    bone = 2.6 * soft(1.55 - np.abs(spine), 0.2) * (0.25 + block)
    bone += 0.9 * soft(3.6 - spine, 0.4) * soft(spine - 1.8, 0.3) * (0.5 + 0.5 * np.cos(2 * math.pi * level))
    plate = soft(0.55 - np.abs(x - front + 0.7), 0.12) * soft(y - 1.5, 0.4) * soft(0.8 * shape.lung_height - y, 0.5)
    bone += 2.0 * plate
    inside = soft(wall + 0.7, 0.3)
    for offset, half in ((0.0, 0.42), (1.15, 0.5)):  # the near side's ribs are larger and cover others
        phase = (y + 0.62 * x + 0.022 * x**2 + offset) / (body.rib_gap * (1 + 0.1 * offset)) + body.rib_start
        gap = np.abs(phase - np.floor(phase) - 0.5) * body.rib_gap
        bone += 0.75 * np.exp(-((gap / half) ** 4)) * inside * soft(y - 1.5, 1.0)
    blade = np.abs(x - back + 1.0 - 0.35 * (y - 5))
    bone += 0.9 * np.exp(-((blade / 0.5) ** 2)) * soft(9 - y, 1.0) * soft(y, 1.0)
    return single(bone * np.float32(body.rib_density))
