"""A chest seen from the front: body, lungs, heart, bones, vessels. x > 0 is the patient's left."""

from __future__ import annotations

import math

import numpy as np

from cxr_cft.data.phantoms.canvas import Array, Frame, cloud, draw_lines, ellipse, half_disc, single, soft
from cxr_cft.data.phantoms.chest import Chest
from cxr_cft.data.phantoms.patient import Body, Pose
from cxr_cft.data.phantoms.shape import Fracture, Shape
from cxr_cft.data.phantoms.vessels import tree

# Sizes below are an adult's in cm, in kind, from radiographic anatomy; y is 0 at the lungs' apex.


def frontal_frame(pose: Pose, size: int) -> Frame:
    """The picture plane of a frontal exposure whose short side is `size` pixels."""
    wide = pose.portrait >= 1
    height = size if wide else round(size / pose.portrait)
    width = round(size * pose.portrait) if wide else size
    return Frame(height, width, pose.field / size, pose.angle, pose.x, pose.y)


def frontal_chest(body: Body, pose: Pose, shape: Shape, size: int) -> Chest:
    """The layers of a frontal view without filling of the lungs and without devices."""
    frame = frontal_frame(pose, size)
    x, y = frame.grid()
    rng = np.random.default_rng(pose.seed)
    aside = np.abs(x)
    wall = inner_wall(y, shape)
    floor = diaphragm(x, aside, body, shape)
    share = aside / (wall + 0.3)
    inside = soft(wall - aside, 0.25)
    above = soft(floor - y, 0.18)
    depth = body.lung_depth * (0.4 + 0.6 * np.sqrt(np.clip(y / (0.6 * shape.lung_height), 0, 1)))
    air = depth * half_disc(share**2) * (above + (1 - above) * 0.2 * np.exp(np.clip((floor - y) / 1.8, -20, 0)))
    taken, hilar = mediastinum(x, y, body, pose, shape)
    air = np.maximum(air - taken, 0) * coarseness(rng, frame, body)
    lung = inside * above * soft(air - 2.2, 1.5)
    water = _body(x, y, body, shape) + hilar
    vessels = _vessels(frame, body, pose, shape) * np.minimum(air / 4, 1)
    _air_ways(frame, pose, water)
    if body.bubble > 0.8:
        gas = ellipse(x, y, (0.42 * shape.half_width, shape.domes[1] + 1.4), (body.bubble, 1.0))
        water -= 2.8 * soft(1 - gas, 0.5) * (1 - above)
    water += 0.25 * cloud(rng, frame, 3.0) + 0.10 * cloud(rng, frame, 1.2)
    bone = _bones(x, y, aside, wall, body, pose, shape)
    _imitators(x, y, frame, body, pose, rng, water, bone)
    return Chest(
        lateral=False,
        frame=frame,
        x=x,
        y=y,
        lung=lung,
        wall=wall - aside,
        floor=floor,
        water=water,
        air=air,
        bone=bone,
        metal=np.zeros_like(x),
        vessels=vessels,
        heights=(0.0, shape.lung_height + body.dome_rise),
    )


def coarseness(rng: np.random.Generator, frame: Frame, body: Body) -> Array:
    """The share of air that a healthy lung's interstitium leaves: finely mottled, more so with coarse markings."""
    mottle = 0.05 * np.abs(cloud(rng, frame, 0.7)) + 0.05 * np.clip(cloud(rng, frame, 4.0), -1, 2)
    return single(np.clip(1 - body.markings * (mottle + 0.02), 0.3, 1.02))


def inner_wall(y: Array, shape: Shape) -> Array:
    """Half width of the thorax at each height: a dome above, nearly straight below."""
    down = np.clip(y / (0.85 * shape.lung_height), 0, 1)
    return single(shape.half_width * np.clip(1 - (1 - down) ** 2.5, 0, 1) ** 0.45)


def diaphragm(x: Array, aside: Array, body: Body, shape: Shape) -> Array:
    """The diaphragm's y over each x: two domes, falling steeply to the costophrenic angles."""
    top = np.where(x < 0, np.float32(shape.domes[0]), np.float32(shape.domes[1]))
    crest = 0.48 * shape.half_width
    lateral = np.clip((aside - crest) / (shape.half_width - crest), 0, 1.2)
    medial = np.clip((crest - aside) / crest, 0, 1)
    return single(top + body.dome_rise * lateral**2.3 + 1.3 * medial**2)


def mediastinum(x: Array, y: Array, body: Body, pose: Pose, shape: Shape) -> tuple[Array, Array]:
    """How much lung (cm) heart and great vessels take, and the water that the hila add."""
    shift = 0.35 * pose.turn
    knob = body.knob * np.exp(-(((y - 0.24 * shape.lung_height) / 1.5) ** 2))
    trunk = 0.5 * np.exp(-(((y - 0.41 * shape.lung_height) / 1.7) ** 2))
    # Wide above (great vessels), a waist at the hila, then only spine and aorta behind the heart.
    taper = shape.upper * (1.02 - 0.38 * soft(y - 0.62 * shape.lung_height, 3.0) + 0.12 * soft(3 - y, 3.0))
    left, right = taper + knob + trunk, taper - 0.2 + 0.3 * soft(y - 4, 2.0) * soft(0.5 * shape.lung_height - y, 3.0)
    edge = np.where(x > shift, left, right)
    taken = 13.5 * soft(edge - np.abs(x - shift), 0.55)
    half = shape.heart_half_width
    # Half width of a tilted ellipse: sqrt(a^2 cos^2 + b^2 sin^2), with b = 0.82 a.
    long = half / math.sqrt(math.cos(body.heart_tilt) ** 2 + (0.82 * math.sin(body.heart_tilt)) ** 2)
    centre = (shape.heart_middle, min(shape.domes) + 1.5 - 0.70 * half)
    # Broader below than above, like a heart, and with the great vessels' base on top of it.
    broader = 1 + 0.024 * np.clip(y - centre[1], -6, 6)
    ball = ellipse((x - centre[0]) / broader + centre[0], y, centre, (long, 0.82 * long), body.heart_tilt)
    base = ellipse(x, y, (0.35 * centre[0], centre[1] - 0.62 * half), (0.6 * half, 0.8 * half))
    taken = np.maximum(taken, np.maximum(12.5 * half_disc(ball) + 1.5 * soft(1 - ball, 0.15), 10 * half_disc(base)))
    hilum = 0.44 * shape.lung_height
    hilar = 2.6 * np.exp(-ellipse(x, y, (-3.9 + shift, hilum + 0.6), (1.4, 2.1)))
    hilar += 2.6 * np.exp(-ellipse(x, y, (3.9 + shift, hilum - 0.4), (1.4, 1.9)))
    return single(taken), single(hilar)


def _body(x: Array, y: Array, body: Body, shape: Shape) -> Array:
    """Thickness of everything inside the skin: trunk, shoulders, neck, breasts."""
    aside = np.abs(x)
    flank = shape.half_width + 1.6 + body.fat
    outer = flank + 14 * soft(5.5 - y, 5.0)
    shoulder = -4.5 + 0.016 * np.maximum(aside - 5, 0) ** 2  # the slope from the neck to the shoulder
    trunk = (body.lung_depth + 4 + 1.6 * body.fat) * np.sqrt(half_disc((aside / outer) ** 2) * 0.75 + 0.06)
    trunk *= soft(outer - aside, 0.5) * (0.28 + 0.72 * soft(y - shoulder - 1, 4.5))
    neck = 11 * half_disc((aside / 6.0) ** 2) * soft(2 - y, 3.0)
    water = np.maximum(trunk * soft(y - shoulder, 0.7), neck)
    water += 3.0 * np.clip((y - shape.lung_height) / 6, 0, 1)  # the belly is thicker
    # Pectoral muscle and the fold of the armpit.
    water += (0.7 if body.female else 1.5) * soft(11 - y, 2.5) * soft(aside - 5, 3.0) * soft(flank - aside, 1.0)
    if body.breasts > 0.3:
        low = 0.72 * body.lung_height + 0.4 * body.fat
        for side in (-1, 1):
            ball = ellipse(x, y, (side * (0.6 * shape.half_width + 0.4 * body.fat), low), (5.8, 5.2 + 0.3 * body.fat))
            water += body.breasts * half_disc(ball) * (0.35 + 0.65 * soft(y - low + 1, 4.0))
    return single(water)


def _vessels(frame: Frame, body: Body, pose: Pose, shape: Shape) -> Array:
    rng = np.random.default_rng(body.vessel_seed)
    hilum, shift = 0.44 * shape.lung_height, 0.35 * pose.turn
    upward = 0.62 + 0.5 * shape.cephalised
    left = tree(rng, (3.6 + shift, hilum - 0.4), (-1.45, 1.5), 0.72 * shape.half_width, upward_gain=upward)
    right = tree(
        rng, (-3.6 + shift, hilum + 0.6), (math.pi + 1.45, math.pi - 1.5), 0.72 * shape.half_width, upward_gain=upward
    )
    return single(draw_lines(frame, left + right) * (2.3 * shape.vessel_gain))


def _air_ways(frame: Frame, pose: Pose, water: Array) -> None:
    shift = 0.45 * pose.turn
    carina = (0.1 + shift, 7.6)
    trachea = np.array([[shift, -8.0], [0.1 + shift, 2.0], [-0.1 + shift, 5.0], carina])
    right, left = np.array([carina, (-3.0 + shift, 10.2)]), np.array([carina, (3.6 + shift, 9.9)])
    water -= 2.1 * draw_lines(frame, [(right, 1.1, 0.6), (left, 0.9, 0.5), (trachea, 1.7, 1.0)])


def _bones(x: Array, y: Array, aside: Array, wall: Array, body: Body, pose: Pose, shape: Shape) -> Array:
    across = np.clip(aside / (wall + 0.9), 0, 1.02)
    below = soft(y + 0.5, 0.5) * soft(wall + 1.0 - aside, 0.3)
    gap = body.rib_gap * (0.75 + 0.25 * pose.inspiration)
    edge_on = 1 + 1.3 * across**8
    back_line = -0.9 * np.sin(2.4 * across) + 4.4 * across**3
    back = _rib_family(x, y, across, back_line, gap, body.rib_start, 0.52, shape.fracture)
    back *= below * soft(aside - 2.0, 0.5) * soft(y - back_line - 0.2, 0.4)
    # In front, ribs run down towards the midline and end in cartilage, which does not show.
    front_line = 3.5 + 5.6 * np.maximum(1 - across, 0) ** 1.2
    front = _rib_family(x, y, across, front_line, gap * 1.06, body.rib_start, 0.62, None)
    front *= below * soft(across - 0.45, 0.12) * soft(y - front_line, 0.5)
    bone = (1.0 * back + 0.55 * front) * edge_on
    spine = x + 0.15 * pose.turn
    column = soft(1.9 - np.abs(spine), 0.3) * (1.5 + 0.45 * np.cos(2 * math.pi * y / 2.4))
    column += 0.5 * np.exp(-((np.abs(spine) - 1.2) ** 2) / 0.15 - np.cos(math.pi * y / 2.4) ** 2 * 4)
    bone += 0.9 * column
    ends = np.where(x > 0, aside - 0.5 * pose.turn, aside + 0.5 * pose.turn)
    tilt = 0.09 if pose.portable else 0.16
    clavicle = 2.6 - tilt * ends + 0.75 * np.cos(ends / 2.7)
    bone += 1.1 * np.exp(-(((y - clavicle) / 0.62) ** 4)) * soft(ends - 1.8, 0.4) * soft(16.5 - ends, 1.0)
    # Shoulder blades: rolled out of the lungs in a PA exposure, across them in bed.
    blade = aside - (shape.half_width * (0.84 if pose.portable else 1.02) + 0.12 * (9 - y))
    sheet = soft(blade, 0.3) * (0.35 + 0.6 * np.exp(-((blade - 0.3) ** 2) / 0.12))
    bone += sheet * soft(y - 1.0, 1.0) * soft(13.5 - y, 1.5) * soft(6 - blade, 1.0)
    bone *= 1 - 0.45 * soft(y - shape.lung_height - 2, 3.0)  # veiled by the belly's scatter
    return single(bone * np.float32(body.rib_density))


def _rib_family(
    x: Array, y: Array, across: Array, line: Array, gap: float, start: float, half: float, fracture: Fracture | None
) -> Array:
    """Ribs `gap` cm apart along `line`, as cm of bone: a flat bar whose rims are denser."""
    phase = (y - line) / gap + start
    if fracture is not None:
        hit = (np.floor(phase) == fracture.rib) & (np.sign(x) == fracture.side)
        past = (across - fracture.out) * 14  # cm, about
        # The outer fragment sinks, most at the break.
        phase = phase - hit * (fracture.step / gap) * soft(past, 0.15) * np.exp(-np.maximum(past, 0) / 5)
    off = np.abs(phase - np.floor(phase) - 0.5) * gap
    bar = 0.75 * np.exp(-((off / half) ** 6)) + 0.45 * np.exp(-(((off - 0.8 * half) / 0.16) ** 2))
    if fracture is not None:
        # A dark gap between thickened ends.
        bar = bar * (1 + hit * (0.9 * np.exp(-((past / 1.1) ** 2)) - 1.8 * np.exp(-((past / 0.25) ** 2))))
    return np.asarray(bar, dtype=np.float32)


def _imitators(
    x: Array, y: Array, frame: Frame, body: Body, pose: Pose, rng: np.random.Generator, water: Array, bone: Array
) -> None:
    """Harmless things that look like signs: skin folds, nipples, calcified nodes and knob."""
    if pose.skin_fold:
        side = float(rng.choice([-1.0, 1.0]))
        place = side * x - body.half_width * rng.uniform(0.55, 0.8) - 0.12 * (y - 10)
        water += 1.3 * np.exp(np.clip(place, -8, 0) / 1.2) * soft(-place, 0.12) * soft(y - 4, 2) * soft(17 - y, 2)
    if body.nipples:
        for side in (-1, 1):
            water += 1.0 * half_disc(ellipse(x, y, (side * 0.58 * body.half_width, 0.8 * body.lung_height), (0.5, 0.5)))
    if body.calcified_node:
        for _ in range(3):
            spot = (float(rng.choice([-1.0, 1.0])) * rng.uniform(2.8, 5), 0.44 * body.lung_height + rng.normal(0, 1.3))
            bone += 1.3 * half_disc(ellipse(x, y, spot, (0.45, 0.4)))
    if body.calcified_knob:
        at = 0.24 * body.lung_height
        arc = np.array([[body.upper + 0.1, at - 1], [body.upper + body.knob - 0.2, at], [body.upper + 0.1, at + 1.2]])
        bone += 1.2 * draw_lines(frame, [(arc, 0.22, 1.0)])
