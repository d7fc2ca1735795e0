"""The first frame of a DICOM file as it is meant to be seen, by pydicom (2.4 or newer); travels with images.

pydicom is imported only where a file is DICOM: nothing else needs it, and a bundle must run without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    Values = np.ndarray[Any, np.dtype[Any]]

_BLOCK = 1 << 22  # pixels whose values are made at once
_FIRST_GROUPS = (b"\2\0", b"\x08\0", b"\0\x08")  # how a file without DICOM's own beginning begins, in either byte order


def is_dicom(file: BinaryIO) -> bool:
    """Whether a file has the mark of DICOM (PS3.10, 7.1), whatever its name."""
    file.seek(128)
    return file.read(4) == b"DICM"


def may_be_dicom(file: BinaryIO) -> bool:
    """Whether a file that is nothing else may be DICOM without the mark, as older devices write it."""
    file.seek(0)
    return file.read(2) in _FIRST_GROUPS


def dicom_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height, by the header alone. Raises OSError without pydicom, and for a file without a picture."""
    header = _read(file, stop_before_pixels=True)
    width, height = header.get("Columns"), header.get("Rows")
    if not width or not height:
        raise OSError("a DICOM file without a picture")
    return int(width), int(height)


def dicom_pixels(file: BinaryIO) -> Values:
    """The first frame: bright is dense; rescaled, and windowed where the file says how.

    (H, W) or (H, W, 3) uint8 where it has up to 8 bits, else (H, W) float32 of any range. Raises OSError where pydicom
    or the library that it needs for this compression is missing, and whatever damaged data lead to.
    """
    dataset = _read(file)
    try:
        frame = _frame(dataset)
    except Exception as error:  # whatever a decoder raises
        raise OSError(f"the picture of this DICOM file cannot be decoded: {error}") from error
    return frame if frame.ndim == 3 else _grey(frame, dataset)


def _read(file: BinaryIO, **options: Any) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise OSError("a DICOM file; install pydicom to read it (pip install pydicom)") from error
    file.seek(0)
    return pydicom.dcmread(file, force=True, **options)


def _processing() -> Any:
    """Where pydicom has what turns stored values into meant ones."""
    import pydicom

    if pydicom.__version__.startswith("2."):
        return importlib.import_module("pydicom.pixel_data_handlers.util")
    return importlib.import_module("pydicom.pixels")


def _frame(dataset: Any) -> Values:
    """The first frame as stored (H, W), or (H, W, 3) uint8 in red, green and blue."""
    kind = str(dataset.PhotometricInterpretation)
    processing = _processing()
    if hasattr(processing, "pixel_array"):
        frame = processing.pixel_array(dataset, index=0)
    else:  # before version 3: all frames, and colours as they are stored
        frames = int(dataset.get("NumberOfFrames") or 1)
        frame = dataset.pixel_array[0] if frames > 1 else dataset.pixel_array
        if kind.startswith("YBR_FULL"):
            frame = processing.convert_color_space(frame, kind, "RGB")
    if kind == "PALETTE COLOR":
        frame = processing.apply_color_lut(frame, dataset)
    frame = np.asarray(frame)
    # Colours of more bits are screenshots, not measurements: their upper bits are what the screen showed.
    return (frame >> 8 * (frame.itemsize - 1)).astype(np.uint8) if frame.ndim == 3 else frame


def _grey(frame: Values, dataset: Any) -> Values:
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    values = np.empty(frame.shape, dtype=np.float32)
    step = max(1, _BLOCK // frame.shape[1])
    for top in range(0, len(frame), step):
        values[top : top + step] = _meant(frame[top : top + step], dataset)
    if inverted:
        np.negative(values, out=values)
    bits = int(dataset.BitsStored)
    if bits > 8:
        return values
    # Up to 8 bits keep their own range, as in any other file: from the least to the most that they could say.
    ends = _meant(_ends(bits, signed=bool(dataset.PixelRepresentation)), dataset)
    low, high = sorted(-ends if inverted else ends)
    spread = np.clip(np.round((values - low) * (255.0 / (high - low or 1.0))), 0, 255)
    return np.asarray(spread, dtype=np.uint8)


def _ends(bits: int, signed: bool) -> Values:
    """The least and the greatest stored value."""
    return np.array([-(1 << bits - 1), (1 << bits - 1) - 1] if signed else [0, (1 << bits) - 1], dtype=np.int64)


def _meant(stored: Values, dataset: Any) -> Values:
    """Stored values rescaled (PS3.3 C.11.1) and windowed (C.11.2), by the first window where there are several."""
    processing = _processing()
    rescaled = np.asarray(processing.apply_modality_lut(stored, dataset))
    whole = np.round(rescaled).astype(np.int64) if dataset.get("VOILUTSequence") else rescaled  # a table's index
    try:
        return np.asarray(processing.apply_voi_lut(whole, dataset))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # a width of 0, a centre without a width, …
        return rescaled
