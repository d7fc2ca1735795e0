"""The picture plane in centimetres: where each pixel lies in the patient, smooth edges, clouds and drawn lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Array = npt.NDArray[np.floating]  # (height, width); float32 throughout, for speed
Points = npt.NDArray[np.float64]  # (N, 2): x and y in cm

# Lines are drawn at twice the resolution and averaged, which is enough to smooth their edges.
OVERSAMPLING = 2


@dataclass(frozen=True)
class Frame:
    """A picture of `height` x `width` pixels, centred on (`x`, `y`) cm and turned by `angle` radians."""

    height: int
    width: int
    cm_per_pixel: float
    angle: float = 0.0
    x: float = 0.0
    y: float = 0.0

    def grid(self) -> tuple[Array, Array]:
        """The x and y of every pixel's centre in cm, (height, width) each."""
        across = (np.arange(self.width, dtype=np.float32) - (self.width - 1) / 2) * self.cm_per_pixel
        down = (np.arange(self.height, dtype=np.float32) - (self.height - 1) / 2)[:, None] * self.cm_per_pixel
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        x = cosine * across - sine * down + self.x
        y = sine * across + cosine * down + self.y
        return x.astype(np.float32), y.astype(np.float32)

    def pixels(self, points: Points) -> Points:
        """The column and row of points given in cm; the inverse of `grid`."""
        x, y = points[:, 0] - self.x, points[:, 1] - self.y
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        across, down = cosine * x + sine * y, -sine * x + cosine * y
        return np.stack(
            [across / self.cm_per_pixel + (self.width - 1) / 2, down / self.cm_per_pixel + (self.height - 1) / 2],
            axis=1,
        )


def single(field: npt.ArrayLike) -> Array:
    """The field in single precision."""
    return np.asarray(field, dtype=np.float32)


def soft(distance: Array, edge: float) -> Array:
    """0 to 1 over about two `edge` widths (cm) around distance 0: an outline without stair steps."""
    return single(1 / (1 + np.exp(np.clip(distance * (-2 / edge), -30, 30))))


def half_disc(square: Array) -> Array:
    """sqrt(1 - r^2) from r^2, 0 outside: the thickness of a ball or a cylinder of radius 1."""
    return np.sqrt(np.maximum(1 - square, 0)).astype(np.float32)


def ellipse(x: Array, y: Array, centre: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0) -> Array:
    """r^2 of an ellipse turned by `tilt` radians: 0 at its centre and 1 on its outline."""
    cosine, sine = math.cos(tilt), math.sin(tilt)
    dx, dy = x - centre[0], y - centre[1]
    return ((cosine * dx + sine * dy) / radii[0]) ** 2 + ((cosine * dy - sine * dx) / radii[1]) ** 2


def enlarge(small: npt.NDArray[np.floating], shape: tuple[int, int]) -> Array:
    """A small field as a smooth one of `shape`."""
    picture = Image.fromarray(np.ascontiguousarray(small, dtype=np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), dtype=np.float32)


def cloud(rng: np.random.Generator, frame: Frame, grain: float) -> Array:
    """Smooth noise, about standard normal, whose lumps are `grain` cm across."""
    rows = max(2, round(frame.height * frame.cm_per_pixel / grain))
    columns = max(2, round(frame.width * frame.cm_per_pixel / grain))
    return enlarge(rng.standard_normal((rows, columns), dtype=np.float32), (frame.height, frame.width))


def blur(field: Array, cells: int) -> Array:
    """The field without anything finer than about `cells` pixels."""
    height, width = field.shape
    picture = Image.fromarray(field)
    small = picture.resize((max(2, width // cells), max(2, height // cells)), Image.Resampling.BOX)
    return enlarge(np.asarray(small), (height, width))


def draw_lines(frame: Frame, lines: Sequence[tuple[Points, float, float]]) -> Array:
    """Lines of (points in cm, width in cm, strength 0 to 1) as a field from 0 to 1; later lines cover earlier ones."""
    picture = Image.new("L", (frame.width * OVERSAMPLING, frame.height * OVERSAMPLING))
    pen = ImageDraw.Draw(picture)
    for points, width, strength in lines:
        dots = ((frame.pixels(points) + 0.5) * OVERSAMPLING).ravel().tolist()
        # A line thinner than the grid is drawn one dot wide and fainter instead.
        thick = width / frame.cm_per_pixel * OVERSAMPLING
        pen.line(dots, fill=round(255 * strength * min(1.0, thick)), width=max(1, round(thick)), joint="curve")
    return np.asarray(picture.reduce(OVERSAMPLING), dtype=np.float32) / 255
