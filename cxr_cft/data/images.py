"""From an image file to the model's square input: the one way, in training and in the bundle that carries this file.

Only the standard library, numpy and Pillow: it must run where nothing else of the project is installed.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin, UnidentifiedImageError

from cxr_cft.data.dicom import dicom_pixels, dicom_size, is_dicom, may_be_dicom

if TYPE_CHECKING:
    Bytes = np.ndarray[Any, np.dtype[np.uint8]]
    Blocks = Callable[[int, int], np.ndarray[Any, Any]]

REVISION = 2
"""Counts the changes of `read_image` that change pixels; a model is only ever fed by the revision it was trained on."""

MAX_PIXELS = 20_000 * 20_000
"""Larger images are refused by what their header says, before they take memory (assumed; films have 30 million)."""

LARGE = 128 << 20
"""Bytes of a decoded image, or of a DICOM file, beyond which one is decoded at a time. With 20,000 × 20,000 pixels a
process then takes up to 0.4 GiB (grey PNG), 0.8 (palette), 1.3 (16 bits), 1.9 (colour), 3.1 (DICOM), and for a JPEG
0.04, but 1.2 if it is progressive and in colour (measured); smaller images take some 0.2 GiB in each thread."""

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2}  # of a pixel in Pillow's memory; all others take 4
_BLOCK = 1 << 22  # pixels that are converted at once, so that memory does not hold an image several times
_DELEGATED = {"EPS"}  # formats that Pillow hands to another program, which a file from elsewhere should not start
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF 2.32, tag 274: what turns the picture upright

_one_large = threading.Lock()


def preprocessing(size: int) -> dict[str, Any]:
    """The specification that artefacts carry and compare: everything that decides the pixels."""
    return {"size": size, "fit": "letterbox", "resample": "bilinear", "channels": 1, "revision": REVISION}


def read_image(path: str | os.PathLike[str], size: int) -> Bytes:
    """Decode an image and fit it, whole and undistorted, into the middle of a black square.

    Keeping the proportions keeps the cardiothoracic ratio, and makes a full-resolution radiograph and its reduced copy
    nearly the same input. Images of more than 8 bits are spread from their darkest to their brightest value; what is
    stored inverted (WhiteIsZero, MONOCHROME1) is turned back; of several frames it is the first. DICOM needs pydicom.
    Returns (size, size) uint8. Raises OSError, of one line, for a file that is missing, truncated, no image, or larger
    than MAX_PIXELS; Pillow's own message does not always name the file, so a caller should.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - it may be a string; opening a pipe would wait
            raise OSError(f"cannot decode image file {os.fspath(path)!r}: it is no file")
        with open(path, "rb") as file:  # noqa: PTH123
            return _decode(file, os.fspath(path), size)
    except OSError as error:
        if "\n" in str(error):
            raise OSError(_told(path, error)) from error
        raise
    except Exception as error:  # damaged metadata raises whatever the damage led to: struct.error, TypeError, …
        raise OSError(_told(path, error)) from error


def _told(path: str | os.PathLike[str], error: Exception) -> str:
    why = "memory does not suffice" if isinstance(error, MemoryError) else " ".join(str(error).split())
    return f"cannot decode image file {os.fspath(path)!r}: {why or type(error).__name__}"


def _decode(file: BinaryIO, name: str, size: int) -> Bytes:
    if is_dicom(file):
        return _decode_dicom(file, size)
    try:
        image, inverted = _open(file, name)
    except UnidentifiedImageError:
        if may_be_dicom(file):
            return _decode_dicom(file, size)
        raise
    with image, _admitted(image.size, _BYTES.get(image.mode, 4)):
        # A JPEG is decoded at a reduced scale, still at least twice the target, so that the resize below averages.
        image.draft("L", (2 * size, 2 * size))
        return _fit(_upright_grey(image, inverted, file, name), size)


def _decode_dicom(file: BinaryIO, size: int) -> Bytes:
    width, height = dicom_size(file)
    content = os.fstat(file.fileno()).st_size  # of all frames, which are read as one
    with _admitted((width, height), max(4, content // (width * height))):
        pixels = dicom_pixels(file)
        if pixels.dtype != np.uint8:
            pixels = _spread(lambda top, bottom: pixels[top:bottom], pixels.shape[1], pixels.shape[0])
        return _fit(Image.fromarray(pixels).convert("L"), size)


def _admitted(sides: tuple[int, int], pixel: int) -> Any:
    """The context to decode so large an image in, `pixel` bytes each. Raises OSError for one that is too large."""
    width, height = sides
    if width * height > MAX_PIXELS:
        raise OSError(f"the image says that it has {width} × {height} pixels, more than 20,000 × 20,000")
    return _one_large if width * height * pixel > LARGE else nullcontext()


def _fit(grey: Image.Image, size: int) -> Bytes:
    """The picture in the middle of the square."""
    scale = size / max(grey.size)
    width, height = (max(1, min(size, round(side * scale))) for side in grey.size)
    resized = grey.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=None)
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = np.asarray(resized)
    return square


# ---- recognition


def _open(file: BinaryIO, name: str) -> tuple[ImageFile.ImageFile, bool]:
    """A picture by its content, and whether its values are from white to black where Pillow has them the other way.

    Not by Image.open: that refuses large pictures by a setting that all users of Pillow in a process share.
    """
    image = _first_plugin(file, name)
    if image is None:
        whitened = _told_black_is_zero(file)
        image = None if whitened is None else _first_plugin(whitened, "")
        if image is None or not _many_bits(image):
            raise UnidentifiedImageError(f"cannot identify image file {name!r}")
        return image, True
    # Pillow inverts WhiteIsZero (0) in up to 8 bits, and leaves it as it is in more (in all its versions up to 13).
    white_is_zero = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0
    return image, white_is_zero and _many_bits(image)


def _first_plugin(file: BinaryIO, name: str) -> ImageFile.ImageFile | None:
    file.seek(0)
    prefix = file.read(16)
    tried = set(_DELEGATED)
    for register in (Image.preinit, Image.init):
        register()
        for kind in [kind for kind in Image.ID if kind not in tried]:
            tried.add(kind)
            factory, accept = Image.OPEN[kind]
            try:
                accepted = accept is None or accept(prefix)
                if accepted and not isinstance(accepted, str):  # a string says why not
                    file.seek(0)
                    return factory(file, name)
            except (SyntaxError, IndexError, TypeError, struct.error):  # so a plugin says that it is not its format
                continue
    return None


def _told_black_is_zero(file: BinaryIO) -> BinaryIO | None:
    """A TIFF that says WhiteIsZero (tag 262), with that changed to BlackIsZero; None if it is none.

    Pillow's table lacks WhiteIsZero for 12 bits, and for 16 in big-endian order.
    """
    file.seek(0)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(file.read(4))
    if order is None:
        return None
    file.seek(0)
    content = bytearray(file.read())
    (start,) = struct.unpack_from(order + "L", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(order + "HHLH", content, entry) == (262, 3, 1, 0):
            struct.pack_into(order + "H", content, entry + 8, 1)
            return io.BytesIO(content)
    return None


# ---- grey values


def _many_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _upright_grey(image: ImageFile.ImageFile, inverted: bool, file: BinaryIO, name: str) -> Image.Image:
    width, height = image.size
    raw = _sixteen_bit_colour(image)
    if raw is not None:
        grey = Image.fromarray(_spread(_sixteen_bit_grey(image, raw, file, name), width, height))
    else:
        _load(image)
        grey = _to_grey(image, inverted)
    turn = _TURNS.get(_orientation(image))
    return grey if turn is None else grey.transpose(turn)


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(274)
    except Exception:  # damaged metadata say nothing, and the picture is whole
        return None


def _load(image: ImageFile.ImageFile) -> None:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Where there is room for the pixels already, Pillow does not ask whether they are too many for it.
        stored = getattr(image, "_tile_size", image.size)  # before Pillow turns it, which newer versions do
        image.im = Image.new(image.mode, stored, None).im
    image.load()


def _to_grey(image: Image.Image, inverted: bool) -> Image.Image:
    if image.mode == "L":
        return image
    width, height = image.size
    if _many_bits(image):
        # Radiographs of more than 8 bits rarely use their whole range: spread what is there over 0 to 255.
        sign = -1.0 if inverted else 1.0
        return Image.fromarray(_spread(lambda top, bottom: sign * _rows(image, top, bottom), width, height))
    # Pillow takes every JPEG of four colours for one of Adobe's, which are inverted.
    mistaken = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    grey = Image.new("L", image.size)
    step = max(1, _BLOCK // width)
    for top in range(0, height, step):
        part = image.crop((0, top, width, min(top + step, height))) if step < height else image
        grey.paste(_part_to_grey(ImageChops.invert(part) if mistaken else part), (0, top))
    return grey


def _part_to_grey(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        return image.getchannel("L")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    elif image.mode == "La":
        image = image.convert("LA")
    return image.convert("L")  # a transparent pixel keeps its own grey: radiographs carry idle alpha channels


def _rows(image: Image.Image, top: int, bottom: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(image.crop((0, top, image.width, bottom)), dtype=np.float64)


def _spread(blocks: Blocks, width: int, height: int) -> Bytes:
    """Values, as a function of first and last row, spread over 0 to 255; what is no number or infinite to the ends."""
    step = max(1, _BLOCK // width)
    low, high = np.inf, -np.inf
    for top in range(0, height, step):
        values = blocks(top, min(top + step, height))
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    spread = np.zeros((height, width), dtype=np.uint8)
    if low < high:
        for top in range(0, height, step):
            bottom = min(top + step, height)
            values = np.nan_to_num(blocks(top, bottom).astype(np.float64), nan=low, posinf=high, neginf=low)
            spread[top:bottom] = np.round((values - low) * (255.0 / (high - low)))
    return spread


# ---- 16 bits of colour, of which Pillow keeps the upper eight


def _sixteen_bit_colour(image: ImageFile.ImageFile) -> tuple[str, str] | None:
    """Pillow's names for the arrangements of bytes by which to decode such a picture's upper and lower bytes.

    None for any other picture.
    """
    arguments = image.tile[0][3] if image.tile else None
    raw = arguments[0] if isinstance(arguments, tuple) else arguments
    if raw == "LA;16B":  # grey and alpha, taken for four bands of 8 bits: the first two are the grey
        return "RGBA", "RGBA"
    if image.mode not in ("RGB", "RGBA") or not isinstance(raw, str) or raw.startswith("RGBa"):
        return None
    foreign = ";16B" if sys.byteorder == "little" else ";16L"
    swapped = {";16L": ";16B", ";16B": ";16L", ";16N": foreign}
    return (raw[-4:], swapped[raw[-4:]]) if raw[-4:] in swapped else None


def _sixteen_bit_grey(image: ImageFile.ImageFile, raw: tuple[str, str], file: BinaryIO, name: str) -> Blocks:
    """Rows of such a picture as grey values, from one pass for the upper bytes and one for the lower."""
    _load_as(image, raw[0])
    if raw[0] == raw[1]:
        return lambda top, bottom: _rows(image, top, bottom)[..., :2] @ (256.0, 1.0)
    low = _open(file, name)[0]
    _load_as(low, raw[1])
    weights = np.array([299.0, 587.0, 114.0])  # ITU-R 601-2, as Pillow has it for 8 bits

    def rows(top: int, bottom: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        colour = 256.0 * _rows(image, top, bottom)[..., :3] + _rows(low, top, bottom)[..., :3]
        return np.asarray(np.round(colour @ weights) / 1000.0)

    return rows


def _load_as(image: ImageFile.ImageFile, arrangement: str) -> None:
    """Decode a picture whose bytes are arranged as Pillow's name says, or as its own with another ending."""
    tiles = []
    for tile in image.tile:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        whole = str(arguments[0])[:-4] + arrangement if arrangement.startswith(";") else arrangement
        tiles.append(ImageFile._Tile(*tile[:3], (whole, *arguments[1:])))  # older versions have plain tuples here
    image.tile = tiles
    _load(image)
