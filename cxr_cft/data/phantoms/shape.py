"""The outlines of one chest after disease has changed them: what both views are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cxr_cft.data.phantoms.findings import Sign
from cxr_cft.data.phantoms.patient import AP_MAGNIFICATION, Body, Pose


@dataclass(frozen=True)
class Fracture:
    """A broken rib: which, on which side, how far out (share of the half width) and the step in cm."""

    side: int
    rib: int
    out: float
    step: float


@dataclass(frozen=True)
class Shape:
    """Sizes in cm of one exposure's chest."""

    half_width: float
    lung_height: float
    domes: tuple[float, float]  # y of the right and of the left dome's top
    heart_half_width: float
    heart_middle: float  # x of its centre
    upper: float  # half width of the upper mediastinum
    fracture: Fracture | None
    vessel_gain: float
    cephalised: float  # 0 to 1: vessels to the apices are as wide as those to the bases


def shape_of(body: Body, pose: Pose, signs: Mapping[str, Sign]) -> Shape:
    """Outlines of `body` taken as `pose`, with the findings that move an outline."""
    height = body.lung_height * pose.inspiration
    right, left = height, height + body.dome_gap
    if sign := signs.get("Atelectasis"):
        raised = 0.3 + 1.6 * sign.severity  # lost volume pulls the diaphragm up
        right, left = (right - raised, left) if sign.side < 0 else (right, left - raised)
    ratio = body.heart_ratio
    if sign := signs.get("Cardiomegaly"):
        ratio = max(ratio + 0.02, 0.505) + 0.125 * sign.severity
    # A poorly inspired heart lies flatter and looks wider.
    ratio *= (AP_MAGNIFICATION if pose.portable else 1.0) * (1 + 0.3 * max(0.0, 0.97 - pose.inspiration))
    half = ratio * body.half_width
    upper = body.upper * (1 + 0.25 * max(0.0, 0.97 - pose.inspiration)) * (1.06 if pose.portable else 1.0)
    if sign := signs.get("Enlarged Cardiomediastinum"):
        upper += 0.5 + 1.7 * sign.severity
    fracture = None
    if sign := signs.get("Fracture"):
        fracture = Fracture(sign.side, 3 + int(5 * sign.high), 0.5 + 0.35 * sign.out, 0.4 + 0.45 * sign.severity)
    congested = signs["Edema"].severity if "Edema" in signs else 0.0
    return Shape(
        half_width=body.half_width,
        lung_height=height,
        domes=(right, left),
        heart_half_width=half,
        heart_middle=body.heart_left * half + 0.8 * pose.turn,
        upper=upper,
        fracture=fracture,
        vessel_gain=0.8 + 0.2 * body.markings + 0.4 * congested,
        # Lying down evens out the flow without any disease.
        cephalised=min(1.0, (0.35 if pose.portable else 0.0) + 0.8 * congested),
    )
