"""The layers of one view, in cm along the beam, which anatomy lays down and signs change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr_cft.data.phantoms.canvas import Array, Frame
from cxr_cft.data.phantoms.film import attenuation


@dataclass
class Chest:
    """One view. Every array is (height, width); lengths in cm."""

    lateral: bool
    frame: Frame
    x: Array
    y: Array
    lung: Array  # 0 to 1: inside the lung fields
    wall: Array  # depth inside the chest wall: 0 on it, positive inside
    floor: Array  # y of the diaphragm below each pixel
    water: Array  # everything, were there no air
    air: Array  # of it lung
    bone: Array
    metal: Array
    vessels: Array  # water, on top, inside aerated lung
    heights: tuple[float, float]  # y of the apex and of the deepest angle, for placing signs

    def fill(self, share: Array) -> None:
        """Replace a share (0 to 1) of the lung's air by fluid; vessels vanish in it."""
        kept = 1 - np.clip(share, 0, 1)
        self.air *= kept
        self.vessels *= kept

    def beam(self) -> Array:
        """What the beam meets."""
        return attenuation(self.water + self.vessels, self.air, self.bone, self.metal)
