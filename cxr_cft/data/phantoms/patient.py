"""Who lies or stands before the detector: the build of a patient, and how one exposure was taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Portable (AP) exposures magnify the heart: it is farther from the detector than in PA ones (textbook: 5 to 15 %).
AP_MAGNIFICATION = 1.07


@dataclass(frozen=True)
class Body:
    """What stays the same between a patient's studies. Lengths in cm."""

    female: bool
    age: int
    half_width: float  # of the thorax, inside the ribs
    lung_height: float  # from the apex to the top of the right dome, at full inspiration
    lung_depth: float
    fat: float  # added to the wall on each side
    breasts: float  # thickness, 0 for none
    nipples: bool
    heart_ratio: float  # cardiothoracic ratio without disease
    heart_tilt: float
    heart_left: float  # how far the heart's centre lies left of the midline, as a share of its half width
    knob: float  # how far the aortic knob stands out
    upper: float  # half width of the upper mediastinum
    dome_gap: float  # how much lower the left dome lies
    dome_rise: float  # from the costophrenic angle to the top of the dome
    rib_gap: float
    rib_start: float
    rib_density: float
    bubble: float  # width of the stomach's gas bubble, 0 for none
    calcified_node: bool
    calcified_knob: bool
    markings: float  # how coarse the lung looks without disease: vessels and interstitium of smokers and the old
    vessel_seed: int


@dataclass(frozen=True)
class Pose:
    """How one exposure was taken."""

    portable: bool
    portrait: float  # width over height of the picture
    field: float  # cm along the short side
    angle: float  # in the picture's plane, radians
    x: float
    y: float
    turn: float  # about the long axis: cm by which front structures shift
    inspiration: float  # 1 is full
    exposure: float
    contrast: float
    scatter: float
    noise: float
    skin_fold: bool
    seed: int


def draw_body(rng: np.random.Generator, *, female: bool, age: int) -> Body:
    """A build. Means are an adult's in kind (radiology textbooks); spreads are assumed."""
    fat = float(np.clip(rng.gamma(2.5, 0.8), 0.4, 6))
    return Body(
        female=female,
        age=age,
        half_width=(12.3 if female else 13.6) + rng.normal(0, 0.8),
        lung_height=(19.0 if female else 20.8) + rng.normal(0, 1.3),
        lung_depth=(14.0 if female else 15.5) + rng.normal(0, 1.0) + 0.02 * (age - 50),
        fat=fat,
        breasts=max(0.0, rng.normal(2.6, 1.3) + 0.3 * fat) if female else 0.0,
        nipples=bool(rng.random() < 0.08),
        heart_ratio=float(np.clip(rng.normal(0.455, 0.026) + 0.0004 * (age - 55), 0.38, 0.515)),
        heart_tilt=float(rng.normal(0.70, 0.12)),
        heart_left=float(rng.normal(0.30, 0.06)),
        knob=float(np.clip(rng.normal(0.5, 0.3) + 0.012 * (age - 50), 0.1, 1.5)),
        upper=float(rng.normal(2.7, 0.3)),
        dome_gap=float(rng.normal(1.2, 0.6)),
        dome_rise=float(np.clip(rng.normal(4.6, 0.8), 2.8, 7)),
        rib_gap=float(rng.normal(2.35, 0.12)),
        rib_start=float(rng.uniform(0, 1)),
        rib_density=float(np.clip(rng.normal(1, 0.22) - 0.004 * (age - 50), 0.4, 1.6)),
        bubble=float(max(0.0, rng.normal(2.2, 1.4))),
        calcified_node=bool(rng.random() < 0.07),
        calcified_knob=bool(rng.random() < max(0.02, 0.01 * (age - 55))),
        markings=float(np.clip(rng.lognormal(0, 0.4) + 0.008 * (age - 60), 0.3, 2.3)),
        vessel_seed=int(rng.integers(2**32)),
    )


def draw_pose(rng: np.random.Generator, *, portable: bool) -> Pose:
    """An exposure: portable ones are turned, tilted, cropped, poorly inspired and noisier. Spreads are assumed."""
    loose = 1.7 if portable else 1.0
    landscape = rng.random() < (0.9 if portable else 0.55)
    return Pose(
        portable=portable,
        portrait=float(rng.uniform(1.08, 1.24) if landscape else rng.uniform(0.82, 0.98)),
        field=float(rng.normal(29.5 if landscape else 31.0, 1.3)),
        angle=float(rng.normal(0, 0.022 * loose)),
        x=float(rng.normal(0, 0.7 * loose)),
        y=float(rng.normal(11.2, 0.8 * loose)),
        turn=float(rng.normal(0, 0.45 * loose)),
        inspiration=float(np.clip(rng.normal(0.90 if portable else 0.98, 0.075 if portable else 0.045), 0.7, 1.1)),
        exposure=float(rng.normal(0, 0.22)),
        contrast=float(np.clip(rng.normal(1, 0.14), 0.65, 1.4)),
        scatter=float(rng.uniform(0.05, 0.16) + (0.06 if portable else 0)),
        noise=float(rng.uniform(0.012, 0.035) * (1.3 if portable else 1)),
        skin_fold=bool(rng.random() < (0.14 if portable else 0.02)),
        seed=int(rng.integers(2**32)),
    )
