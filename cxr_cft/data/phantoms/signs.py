"""The lungs' findings as signs (what fills, veils or studs the air, in either view), and the order of all signs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cxr_cft.data.phantoms.canvas import Array, blur, cloud, draw_lines, ellipse, half_disc, soft
from cxr_cft.data.phantoms.chest import Chest
from cxr_cft.data.phantoms.devices import add_devices
from cxr_cft.data.phantoms.findings import Sign
from cxr_cft.data.phantoms.patient import Pose
from cxr_cft.data.phantoms.place import on_side, spot_of
from cxr_cft.data.phantoms.pleura import add_effusion, add_pleural_thickening, add_pneumothorax
from cxr_cft.data.phantoms.shape import Shape

# Strengths below are the share of a lung's air that fluid replaces: tuned by eye for faint to strong, and so that a
# small network finds most but not all of them.


def add_signs(chest: Chest, signs: Mapping[str, Sign], pose: Pose, shape: Shape) -> None:
    """Lay all signs into the layers; those that move an outline are in `shape` already."""
    fillings = {
        "Edema": _edema,
        "Consolidation": _consolidation,
        "Pneumonia": _pneumonia,
        "Lung Opacity": _haze,
        "Atelectasis": _atelectasis,
        "Lung Lesion": _lesion,
        "Fracture": _bruise,
    }
    for finding, add in fillings.items():
        if sign := signs.get(finding):
            add(chest, sign, shape, np.random.default_rng(sign.seed))
    if sign := signs.get("Pleural Other"):
        add_pleural_thickening(chest, sign, shape)
    if sign := signs.get("Pleural Effusion"):
        add_effusion(chest, sign, shape, supine=pose.portable and sign.deep < 0.35)
    if sign := signs.get("Pneumothorax"):
        add_pneumothorax(chest, sign, shape)
    if sign := signs.get("Support Devices"):
        drained = signs.get("Pneumothorax") or signs.get("Pleural Effusion")
        add_devices(chest, sign, pose, shape, drained)


def _patch(chest: Chest, centre: tuple[float, float], radii: tuple[float, float], ragged: float, noise: Array) -> Array:
    """0 to 1: a patch with fuzzy, ragged edges."""
    return soft(1 - ellipse(chest.x, chest.y, centre, radii) + ragged * noise, 0.9)


def _consolidation(chest: Chest, sign: Sign, shape: Shape, rng: np.random.Generator) -> None:
    """A dense patch in one lobe; in strong ones the bronchi stay dark, and some end sharply at a fissure."""
    centre = spot_of(chest, shape, sign, low=0.3, high=0.95)
    size = 2.3 + 2.7 * sign.severity
    share = _patch(chest, centre, (size, size * rng.uniform(0.8, 1.3)), 0.55, cloud(rng, chest.frame, 1.7))
    if rng.random() < 0.35:
        share = share * soft(chest.y - centre[1] + 0.35 * size + 0.05 * chest.x, 0.35)
    share = share * (0.50 + 0.40 * sign.severity) * on_side(chest, sign.side)
    bronchi = []
    for angle in rng.uniform(-0.9, 0.9, 4):
        way = np.array([np.sign(centre[0]) * np.cos(angle), 0.5 + np.sin(angle)]) * size
        bronchi.append((np.array([centre - 0.5 * way, centre + 0.1 * way, centre + 0.6 * way]), 0.35, 1.0))
    chest.fill(share * (1 - 0.5 * sign.severity * blur(draw_lines(chest.frame, bronchi), 2)))


def _pneumonia(chest: Chest, sign: Sign, shape: Shape, rng: np.random.Generator) -> None:
    """Several small fuzzy patches of one segment."""
    centre = spot_of(chest, shape, sign, low=0.25, high=0.9)
    noise = cloud(rng, chest.frame, 1.5)
    share = np.zeros_like(chest.x)
    for _ in range(3 + int(3 * sign.severity)):
        near = (centre[0] + rng.normal(0, 1.8), centre[1] + rng.normal(0, 2.0))
        share = np.maximum(share, _patch(chest, near, (1.7, 1.7), 0.6, noise) * rng.uniform(0.6, 1))
    chest.fill(share * (0.32 + 0.34 * sign.severity) * on_side(chest, sign.side))


def _haze(chest: Chest, sign: Sign, shape: Shape, rng: np.random.Generator) -> None:
    """An unspecific veil over part of one lung."""
    centre = spot_of(chest, shape, sign, low=0.2, high=0.9)
    size = 3.2 + 2.5 * sign.out
    share = _patch(chest, centre, (size, 1.3 * size), 0.4, cloud(rng, chest.frame, 3.0))
    chest.fill(share * (0.18 + 0.26 * sign.severity) * on_side(chest, sign.side))


def _edema(chest: Chest, sign: Sign, shape: Shape, rng: np.random.Generator) -> None:
    """A bat's wing around both hila, a fine interstitial pattern and Kerley's lines at the bases."""
    hilum = 0.5 * shape.lung_height
    if chest.lateral:
        wings = np.exp(-ellipse(chest.x, chest.y, (0.8, hilum), (5.5, 7.0)))
    else:
        left, right = rng.uniform(0.75, 1.1, 2)
        wings = left * np.exp(-ellipse(chest.x, chest.y, (5.2, hilum), (4.2, 6.5)))
        wings = wings + right * np.exp(-ellipse(chest.x, chest.y, (-5.2, hilum), (4.2, 6.5)))
    clouds = 1 + 0.35 * cloud(rng, chest.frame, 2.2)
    fine = 0.05 * np.abs(cloud(rng, chest.frame, 0.7))
    share = (0.07 + 0.50 * sign.severity) * wings * clouds + sign.severity * (fine + 0.04)
    chest.fill(np.maximum(share, 0))
    # The vessels' outlines blur, and septa thicken.
    chest.vessels += 0.6 * sign.severity * (blur(chest.vessels, 3) - chest.vessels)
    septa = []
    for _ in range(int(14 * sign.severity)):
        at, y = float(rng.choice([-1.0, 1.0])), rng.uniform(0.6, 0.98) * shape.lung_height
        x = at * (shape.half_width - rng.uniform(1.6, 2.4)) * (0.6 if chest.lateral else 1.0)
        septa.append((np.array([[x, y], [x + at * 1.5, y + 0.1]]), 0.14, 1.0))
    chest.vessels += 0.8 * draw_lines(chest.frame, septa) * chest.lung


def _atelectasis(chest: Chest, sign: Sign, shape: Shape, rng: np.random.Generator) -> None:
    """Plates across a base, and a veil over the volume lost there; the raised diaphragm is in the shape."""
    base = shape.domes[0 if sign.side < 0 else 1]
    plates = []
    for _ in range(1 + int(2.5 * sign.severity * rng.random() + 0.5)):
        middle, long = 0.35 + 0.35 * rng.random(), rng.uniform(1.8, 3.2) + 1.2 * sign.severity
        x = (6 * middle - 1) if chest.lateral else sign.side * shape.half_width * middle
        y, slope = base - rng.uniform(0.7, 4.0), rng.normal(0, 0.22)
        way = (long, slope * long)
        line = np.array([[x - way[0], y - way[1]], [x, y + 0.15], [x + way[0], y + way[1]]])
        plates.append((line, rng.uniform(0.35, 0.6) + 0.45 * sign.severity, rng.uniform(0.75, 1)))
    drawn = blur(draw_lines(chest.frame, plates), 2) * chest.lung
    chest.fill((0.32 + 0.42 * sign.severity) * (0.6 if chest.lateral else 1.0) * drawn)
    veil = np.exp(-np.clip((chest.floor - chest.y) / 2.6, 0, 20)) * on_side(chest, sign.side)
    chest.fill((0.22 + 0.38 * sign.severity) * veil * (1 + 0.3 * cloud(rng, chest.frame, 1.8)))


def _lesion(chest: Chest, sign: Sign, shape: Shape, rng: np.random.Generator) -> None:
    """One mass, or up to five nodules: balls of soft tissue in the place of lung."""
    many = rng.random() < 0.3
    for number in range(int(rng.integers(3, 6)) if many else 1):
        radius = (0.7 + 0.8 * sign.severity) if many else (0.9 + 2.0 * sign.severity)
        high, out, deep = rng.random(3).tolist()
        other = replace(sign, side=sign.side * (-1) ** number, high=high, out=out, deep=deep)
        centre = spot_of(chest, shape, sign if number == 0 else other, low=0.08, high=0.85)
        ball = ellipse(chest.x, chest.y, centre, (radius, radius * rng.uniform(0.85, 1.15)))
        ball = ball + 0.12 * cloud(rng, chest.frame, 0.9)
        gone = np.minimum(2.2 * radius * half_disc(ball), chest.air)
        chest.air -= gone * chest.lung


def _bruise(chest: Chest, sign: Sign, shape: Shape, rng: np.random.Generator) -> None:
    """Beside a broken rib: swelling from the front, callus from the side, where the step itself is hidden."""
    if chest.lateral:
        centre = spot_of(chest, shape, sign, low=0.3, high=0.8)
        chest.bone += (1.0 + 1.5 * sign.severity) * half_disc(ellipse(chest.x, chest.y, centre, (0.8, 0.55)))
    elif shape.fracture is not None:
        y = (shape.fracture.rib - 0.5) * 2.3 + 3.0
        ball = ellipse(chest.x, chest.y, (sign.side * shape.half_width * 0.97, y), (1.0, rng.uniform(1.5, 2.5)))
        chest.water += (0.6 + 1.2 * sign.severity) * half_disc(ball)
