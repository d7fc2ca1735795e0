"""From an image file to the model's square input: the one way, in training and in the bundle that carries this file.

Only the standard library, numpy and Pillow: it must run where nothing else of the project is installed.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps

REVISION = 1
"""Counts the changes of `read_image` that change pixels; a model is only ever fed by the revision it was trained on."""


def preprocessing(size: int) -> dict[str, Any]:
    """The specification that artefacts carry and compare: everything that decides the pixels."""
    return {"size": size, "fit": "letterbox", "resample": "bilinear", "channels": 1, "revision": REVISION}


def read_image(path: str | os.PathLike[str], size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode an image and fit it, whole and undistorted, into the middle of a black square.

    Keeping the proportions keeps the cardiothoracic ratio, and makes a full-resolution radiograph and its reduced copy
    nearly the same input. Returns (size, size) uint8. Raises OSError for a file that is missing,
    truncated or no image; Pillow's own message does not always name the file, so a caller should.
    """
    try:
        with Image.open(path) as image:
            # A JPEG is decoded at a reduced scale, still at least twice the target, so that the resize below averages.
            image.draft("L", (2 * size, 2 * size))
            grey = _to_grey(ImageOps.exif_transpose(image))
    except OSError:
        raise
    except Exception as error:  # damaged metadata raises whatever the damage led to: struct.error, TypeError, …
        raise OSError(f"cannot decode image file {os.fspath(path)!r}: {error}") from error
    scale = size / max(grey.size)
    width, height = (max(1, min(size, round(side * scale))) for side in grey.size)
    resized = grey.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=None)
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = np.asarray(resized)
    return square


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode == "L":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        # Radiographs of more than 8 bits rarely use their whole range: spread what is there over 0 to 255.
        values = np.asarray(image, dtype=np.float64)
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(np.round((values - low) * (255.0 / (high - low or 1.0))).astype(np.uint8))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("L")  # a transparent pixel keeps its own grey: radiographs carry idle alpha channels
