"""From thicknesses along the beam to grey: attenuation, scatter, the display curve and grain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cxr_cft.data.phantoms.canvas import Array, Frame, blur, cloud, single
from cxr_cft.data.phantoms.patient import Pose

# Per cm, effective at chest energies (about 120 kVp, hardened by the patient); bone and metal on top of water. Textbook
# in kind.
WATER, BONE, METAL = 0.19, 0.30, 3.0
# Less attenuation than this is beside the patient, not behind. Measured on these phantoms.
OPEN_BEAM = 1.0
# Share of water's attenuation that inflated lung lacks: its density is about 0.26.
LUNG_GAIN = 0.74


def attenuation(water: Array, air: Array, bone: Array, metal: Array) -> Array:
    """The line integral of attenuation; `air` is cm of lung inside `water`, the cm of everything."""
    return single(WATER * np.maximum(water - LUNG_GAIN * air, 0) + BONE * bone + METAL * metal)


def develop(beam: Array, frame: Frame, pose: Pose, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """8-bit picture of an attenuation field: dense is white, as on a radiograph."""
    light = np.exp(-beam)
    # Scatter veils what is dense next to what is lucent: a broad blur of the transmitted light.
    veil = blur(np.minimum(light, 0.5), max(2, round(6 / frame.cm_per_pixel)))
    light = light + pose.scatter * np.maximum(veil, 0) + 0.004
    # Quantum noise: relative to the square root of the dose, slightly correlated by the detector.
    grain = rng.standard_normal(beam.shape, dtype=np.float32) + 0.7 * cloud(rng, frame, 0.45)
    log = -np.log(light) + pose.noise * grain * (0.08 / light) ** 0.35
    # Automatic exposure puts the middle of the body at the same grey, more or less.
    height, width = log.shape
    central = log[height // 6 : -height // 6 : 3, width // 7 : -width // 7 : 3]
    body = central[central > OPEN_BEAM]
    low, high = np.percentile(body if body.size else central, [8, 90])
    middle, spread = 0.55 * low + 0.45 * high + 0.25 * pose.exposure, max(high - low, 0.8)
    value = 1 / (1 + np.exp(-(log - middle) / spread * 3.4 * pose.contrast))
    # Slow shading across the plate (heel effect).
    value = value * (1 + 0.03 * cloud(rng, frame, 18))
    return np.asarray(np.clip(value * 250 + 3, 0, 255), dtype=np.uint8)
